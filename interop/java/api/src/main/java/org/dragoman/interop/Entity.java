package org.dragoman.interop;

import java.io.Serializable;
import java.util.Date;

/** What beans inherit from. */
public class Entity implements Serializable {
    private static final long serialVersionUID = 1L;

    private long id;
    private Date created;

    public long getId() {
        return id;
    }

    public void setId(long id) {
        this.id = id;
    }

    public Date getCreated() {
        return created;
    }

    public void setCreated(Date created) {
        this.created = created;
    }
}
