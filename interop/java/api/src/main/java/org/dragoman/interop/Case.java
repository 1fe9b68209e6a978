package org.dragoman.interop;

import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;

/** One call: what is called with what, and what comes back. */
public final class Case {
    public final String name;
    public final String method;
    public final Class<?>[] types;
    public final Object[] arguments;
    /** What comes back; a Throwable is what is thrown (class and message are compared). */
    public final Object result;

    Case(String name, String method, Class<?>[] types, Object[] arguments, Object result) {
        this.name = name;
        this.method = method;
        this.types = types;
        this.arguments = arguments;
        this.result = result;
    }

    /** The JVM descriptor of the parameters. */
    public String descriptor() {
        StringBuilder text = new StringBuilder();
        for (Class<?> type : types) {
            // An array's class is called by its descriptor, with dots.
            String array = java.lang.reflect.Array.newInstance(type, 0).getClass().getName();
            text.append(array.substring(1).replace('.', '/'));
        }
        return text.toString();
    }

    /** Call {@code target}; what it gave or threw. */
    public Object call(Object target) {
        try {
            Method each = Types.class.getMethod(method, types);
            return each.invoke(target, arguments);
        } catch (InvocationTargetException thrown) {
            return new Thrown(thrown.getCause());
        } catch (ReflectiveOperationException impossible) {
            throw new IllegalStateException(impossible);
        }
    }

    /** Null when {@code got} is what is expected, else how it differs. */
    public String compare(Object got) {
        if (got instanceof Thrown) {
            Throwable thrown = ((Thrown) got).throwable;
            if (result instanceof Throwable) {
                String want = Describe.value(result);
                String have = Describe.value(thrown);
                return want.equals(have) ? null : "threw " + have;
            }
            return "threw " + thrown;
        }
        String want = Describe.loosely(result instanceof Throwable ? "an exception" : result);
        String have = Describe.loosely(got);
        return want.equals(have) ? null : "gave " + have;
    }

    /** What a call threw. */
    public static final class Thrown {
        public final Throwable throwable;

        Thrown(Throwable throwable) {
            this.throwable = throwable;
        }
    }
}
