package org.dragoman.interop;

import java.lang.reflect.Array;
import java.lang.reflect.Field;
import java.lang.reflect.Modifier;
import java.math.BigDecimal;
import java.math.BigInteger;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collection;
import java.util.Comparator;
import java.util.Date;
import java.util.IdentityHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Optional;
import java.util.TreeMap;

/**
 * Java values as tagged JSON of ASCII, the same for equal values. null, booleans and strings stand
 * for themselves; everything else is an object whose first member names its kind:
 *
 * <pre>
 * {"int": 1}  byte, short, int, float, double likewise; NaN and infinities as strings
 * {"long": "1"}  {"char": "a"}  {"decimal": "1.50"}  {"integer": "9"}  {"date_ms": 0}
 * {"bytes": "00ff"}  {"array": "int", "items": [...]}
 * {"list": "java.util.ArrayList", "items": [...]}  {"set": "java.util.HashSet", "items": [...]}
 * {"map": "java.util.HashMap", "entries": [[key, value], ...]}
 * {"enum": "org.dragoman.interop.Color", "name": "RED"}
 * {"bean": "org.dragoman.interop.Line", "fields": {...}}
 * {"throwable": "java.lang.X", "message": "..."}
 * {"ref": 2}  the bean that was described third
 * {"other": "java.time.LocalDate", "text": "2020-02-29"}
 * </pre>
 */
public final class Describe {
    private final StringBuilder out = new StringBuilder();
    private final IdentityHashMap<Object, Integer> beans = new IdentityHashMap<>();
    private final boolean loose;

    private Describe(boolean loose) {
        this.loose = loose;
    }

    /** One value. */
    public static String value(Object value) {
        Describe describe = new Describe(false);
        describe.put(value);
        return describe.out.toString();
    }

    /** One value for comparison: which kind of List, Set or Map it is and their order do not count. */
    public static String loosely(Object value) {
        Describe describe = new Describe(true);
        describe.put(value);
        return describe.out.toString();
    }

    /** A JSON string. */
    public static String string(String text) {
        Describe describe = new Describe(false);
        describe.text(text);
        return describe.out.toString();
    }

    private void put(Object value) {
        if (value == null || value instanceof Boolean) {
            out.append(value);
        } else if (value instanceof String) {
            text((String) value);
        } else if (value instanceof Long) {
            tagged("long", value.toString());
        } else if (value instanceof Character) {
            tagged("char", value.toString());
        } else if (value instanceof BigDecimal) {
            tagged("decimal", value.toString());
        } else if (value instanceof BigInteger) {
            tagged("integer", value.toString());
        } else if (value instanceof Number) {
            number((Number) value);
        } else if (value instanceof Date) {
            out.append("{\"date_ms\": ").append(((Date) value).getTime()).append('}');
        } else if (value instanceof byte[]) {
            StringBuilder hex = new StringBuilder();
            for (byte each : (byte[]) value) {
                hex.append(String.format("%02x", each));
            }
            tagged("bytes", hex.toString());
        } else if (value instanceof Enum) {
            Enum<?> each = (Enum<?>) value;
            head("enum", each.getDeclaringClass().getName());
            out.append(", \"name\": ");
            text(each.name());
            out.append('}');
        } else if (value instanceof Collection || value.getClass().isArray()) {
            items(value);
        } else if (value instanceof Map) {
            entries((Map<?, ?>) value);
        } else if (value instanceof Throwable) {
            head("throwable", value.getClass().getName());
            out.append(", \"message\": ");
            put(((Throwable) value).getMessage());
            out.append('}');
        } else if (value.getClass().getName().startsWith("org.dragoman.")) {
            bean(value);
        } else {
            head("other", value.getClass().getName());
            out.append(", \"text\": ");
            text(value instanceof Optional ? ((Optional<?>) value).toString() : value.toString());
            out.append('}');
        }
    }

    private void number(Number value) {
        String kind = value.getClass().getSimpleName().toLowerCase(Locale.ROOT);
        out.append("{\"").append(kind.equals("integer") ? "int" : kind).append("\": ");
        double wide = value.doubleValue();
        if (Double.isNaN(wide) || Double.isInfinite(wide)) {
            text(value.toString());
        } else {
            out.append(value);
        }
        out.append('}');
    }

    private void items(Object value) {
        Object[] items;
        if (value instanceof Collection) {
            boolean set = value instanceof java.util.Set;
            head(set ? "set" : "list", loose ? "" : value.getClass().getName());
            items = ((Collection<?>) value).toArray();
            if (set && loose) {
                Arrays.sort(items, Comparator.comparing(Describe::loosely));
            }
        } else {
            head("array", value.getClass().getComponentType().getName());
            items = new Object[Array.getLength(value)];
            for (int i = 0; i < items.length; i++) {
                items[i] = Array.get(value, i);
            }
        }
        out.append(", \"items\": [");
        for (int i = 0; i < items.length; i++) {
            out.append(i == 0 ? "" : ", ");
            put(items[i]);
        }
        out.append("]}");
    }

    private void entries(Map<?, ?> value) {
        head("map", loose ? "" : value.getClass().getName());
        out.append(", \"entries\": [");
        List<Map.Entry<?, ?>> entries = new ArrayList<>(value.entrySet());
        if (loose) {
            entries.sort(Comparator.comparing(entry -> loosely(entry.getKey())));
        }
        boolean first = true;
        for (Map.Entry<?, ?> entry : entries) {
            out.append(first ? "[" : ", [");
            put(entry.getKey());
            out.append(", ");
            put(entry.getValue());
            out.append(']');
            first = false;
        }
        out.append("]}");
    }

    private void bean(Object value) {
        Integer seen = beans.get(value);
        if (seen != null) {
            out.append("{\"ref\": ").append(seen).append('}');
            return;
        }
        beans.put(value, beans.size());
        head("bean", value.getClass().getName());
        out.append(", \"fields\": {");
        Map<String, Field> fields = new TreeMap<>();
        for (Class<?> at = value.getClass(); at != Object.class; at = at.getSuperclass()) {
            for (Field field : at.getDeclaredFields()) {
                if (!Modifier.isStatic(field.getModifiers()) && !field.isSynthetic()) {
                    fields.put(field.getName(), field);
                }
            }
        }
        boolean first = true;
        for (Map.Entry<String, Field> entry : fields.entrySet()) {
            out.append(first ? "" : ", ");
            text(entry.getKey());
            out.append(": ");
            entry.getValue().setAccessible(true);
            try {
                put(entry.getValue().get(value));
            } catch (IllegalAccessException impossible) {
                throw new IllegalStateException(impossible);
            }
            first = false;
        }
        out.append("}}");
    }

    private void head(String kind, String name) {
        out.append("{\"").append(kind).append("\": ");
        text(name);
    }

    private void tagged(String kind, String text) {
        head(kind, text);
        out.append('}');
    }

    private void text(String text) {
        out.append('"');
        for (int i = 0; i < text.length(); i++) {
            char each = text.charAt(i);
            if (each == '"' || each == '\\') {
                out.append('\\').append(each);
            } else if (each >= ' ' && each < 127) {
                out.append(each);
            } else {
                out.append(String.format("\\u%04x", (int) each));
            }
        }
        out.append('"');
    }
}
