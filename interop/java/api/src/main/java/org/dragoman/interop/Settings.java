package org.dragoman.interop;

import java.util.HashMap;
import java.util.Map;

/** The command line of both programs: {@code name=value ...}. */
public final class Settings {
    private final Map<String, String> given = new HashMap<>();

    public Settings(String[] arguments) {
        for (String each : arguments) {
            int at = each.indexOf('=');
            if (at < 1) {
                throw new IllegalArgumentException(each + ": expected name=value");
            }
            given.put(each.substring(0, at), each.substring(at + 1));
        }
    }

    public String get(String name, String otherwise) {
        return given.getOrDefault(name, otherwise);
    }

    public int get(String name, int otherwise) {
        return given.containsKey(name) ? Integer.parseInt(given.get(name)) : otherwise;
    }

    public boolean has(String name) {
        return given.containsKey(name);
    }

    /** The settings called {@code prefix.NAME}, without the prefix. */
    public Map<String, String> under(String prefix) {
        Map<String, String> those = new HashMap<>();
        for (Map.Entry<String, String> entry : given.entrySet()) {
            if (entry.getKey().startsWith(prefix + ".")) {
                those.put(entry.getKey().substring(prefix.length() + 1), entry.getValue());
            }
        }
        return those;
    }
}
