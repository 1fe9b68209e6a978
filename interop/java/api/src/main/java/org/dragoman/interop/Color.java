package org.dragoman.interop;

/** An enum, one constant of which has a body (and so a class of its own). */
public enum Color {
    RED,
    GREEN,
    BLUE {
        @Override
        public boolean isCold() {
            return true;
        }
    };

    public boolean isCold() {
        return false;
    }
}
