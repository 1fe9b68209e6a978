package org.dragoman.interop;

/** A subclass where its parent is declared. */
public class UrgentOrder extends Order {
    private static final long serialVersionUID = 1L;

    private int hours;

    public int getHours() {
        return hours;
    }

    public void setHours(int hours) {
        this.hours = hours;
    }
}
