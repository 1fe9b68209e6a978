package org.dragoman.interop;

import java.io.Serializable;

/** A bean that may refer to itself. */
public class Node implements Serializable {
    private static final long serialVersionUID = 1L;

    private String name;
    private Node next;

    public String getName() {
        return name;
    }

    public void setName(String name) {
        this.name = name;
    }

    public Node getNext() {
        return next;
    }

    public void setNext(Node next) {
        this.next = next;
    }
}
