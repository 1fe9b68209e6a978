package org.dragoman.interop;

/** An unchecked exception that no method declares. */
public class BrokenException extends RuntimeException {
    private static final long serialVersionUID = 1L;

    public BrokenException() {}

    public BrokenException(String message, Throwable cause) {
        super(message, cause);
    }
}
