package org.dragoman.interop;

/** A checked exception with a field of its own. */
public class RefusedException extends Exception {
    private static final long serialVersionUID = 1L;

    private int code;

    public RefusedException() {}

    public RefusedException(String message, int code) {
        super(message);
        this.code = code;
    }

    public int getCode() {
        return code;
    }

    public void setCode(int code) {
        this.code = code;
    }
}
