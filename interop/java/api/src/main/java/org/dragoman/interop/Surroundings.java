package org.dragoman.interop;

import java.util.Map;

/** What a service sees of the call around it; each release of Dubbo has its own. */
public interface Surroundings {
    /** The attachments that came with the call. */
    Map<String, Object> received();

    /** Send an attachment with the reply. */
    void answer(String key, String value);
}
