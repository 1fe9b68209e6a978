package org.dragoman.interop;

import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.atomic.AtomicInteger;

/** What a consumer does, whatever its release of Dubbo. */
public abstract class Calls {
    /** How a service is referred to. */
    public static final class CallStyle {
        public String group = "";
        public String version = "";
        public int timeoutMs = 10000;
        /** A method that is not waited for, or null. */
        public String oneWay;
    }

    /** A generic call. */
    public interface Generic {
        Object invoke(String method, String[] types, Object[] values);
    }

    // The cases that are called generically too, and their arguments as JSON.
    private static final Map<String, Object[]> GENERIC = new TreeMap<>();

    static {
        String line = "{\"article\":\"x\",\"count\":3,\"price\":9.90}";
        String order = "{\"id\":7000000000,\"customer\":\"Zo\u00eb\",\"color\":\"RED\",\"lines\":[" + line + "],\"paid\":true,\"weight\":2.0}";
        GENERIC.put("String chinese", new Object[] {"\"\u4f60\u597d\uff0c\u4e16\u754c\""});
        GENERIC.put("int 47", new Object[] {"47"});
        GENERIC.put("BigDecimal", new Object[] {"12345678901234567890.123450"});
        GENERIC.put("Date", new Object[] {"\"Feb 29, 2020, 12:00:00 AM\""});
        GENERIC.put("enum", new Object[] {"\"GREEN\""});
        GENERIC.put("nested generics", new Object[] {"{\"k\":[{\"3\":" + line + "},{}]}"});
        GENERIC.put("bean", new Object[] {order});
        GENERIC.put("List of beans", new Object[] {"[" + order + "," + order + "]"});
        GENERIC.put("zero arguments", new Object[0]);
        GENERIC.put("void", new Object[] {"\"x\""});
        GENERIC.put("overloaded two", new Object[] {"\"a\"", "2"});
        GENERIC.put("declared exception", new Object[] {"\"no \u4e2d\""});
    }

    private final Settings settings;

    protected Calls(Settings settings) {
        this.settings = settings;
    }

    /** A proxy of {@link Types}. */
    protected abstract Types types(CallStyle style);

    /** A generic reference to a service; {@code kind} is the attachment "generic". */
    protected abstract Generic generic(String path, String kind);

    /** The call of the method $echo. */
    protected abstract Object echo(Types types, Object value);

    /** Beans as maps, as generic calls take them. */
    protected abstract Object[] generalize(Object[] values);

    /** Send these attachments with calls from now on. */
    protected abstract void attach(Map<String, String> attachments);

    /** An attachment that came with the last reply. */
    protected abstract String answered(String key);

    /** All calls, then the end after what "linger" says. */
    protected final void run() throws Exception {
        String only = settings.get("only", "");
        Types plain = types(new CallStyle());
        System.out.println("ready");
        if (settings.has("load")) {
            load(plain, settings.get("load", 0));
            return;
        }
        for (Case each : Cases.all()) {
            if (each.name.contains(only)) {
                Object got = each.call(plain);
                report(each, each.compare(got));
            }
        }
        if (only.isEmpty() && settings.get("styles", 1) == 1) {
            styles(plain);
        }
        if (only.isEmpty() && settings.has("generic")) {
            for (String kind : settings.get("generic", "true").split(",")) {
                generics(kind);
            }
        }
        Thread.sleep(settings.get("linger", 0));
        System.out.println("done");
    }

    /** Call {@code sleep} from 16 threads for so many milliseconds; one line says how it went. */
    private void load(Types plain, int ms) throws InterruptedException {
        AtomicInteger succeeded = new AtomicInteger();
        ConcurrentLinkedQueue<String> failures = new ConcurrentLinkedQueue<>();
        long until = System.nanoTime() + ms * 1_000_000L;
        List<Thread> threads = new ArrayList<>();
        for (int i = 0; i < 16; i++) {
            int number = i;
            Thread thread = new Thread(() -> {
                for (int count = 0; System.nanoTime() < until; count++) {
                    String text = number + "-" + count;
                    try {
                        String got = plain.sleep(20, text);
                        if (text.equals(got)) {
                            succeeded.incrementAndGet();
                        } else {
                            failures.add("gave " + got);
                        }
                    } catch (RuntimeException thrown) {
                        failures.add(thrown.toString());
                    }
                }
            });
            threads.add(thread);
            thread.start();
        }
        for (Thread thread : threads) {
            thread.join();
        }
        String why = failures.isEmpty() ? "null" : Describe.string(failures.peek());
        System.out.println("{\"succeeded\": " + succeeded + ", \"failed\": " + failures.size() + ", \"why\": " + why + "}");
    }

    private void styles(Types plain) {
        attach(Collections.singletonMap("color", "green"));
        Map<String, String> received = plain.attachments();
        String answered = answered("answered-by");
        attach(Collections.emptyMap());
        one("attachments", "attachments", "", new TreeMap<>(Collections.singletonMap("color", "green")), received);
        System.out.println("{\"name\": \"attachment of the reply\", \"sent\": false, \"outcome\": "
                + ("/".equals(answered) ? "\"pass\"" : "\"fail\", \"why\": " + Describe.string("" + answered)) + "}");
        CallStyle style = new CallStyle();
        style.group = "blue";
        style.version = "1.0.0";
        one("group and version", "which", "", "blue/1.0.0", types(style).which());
        style = new CallStyle();
        style.group = "green";
        style.version = "2.0.0";
        one("another group and version", "which", "", "green/2.0.0", types(style).which());
        one("$echo", "$echo", "Ljava/lang/Object;", "echoed", echo(plain, "echoed"), "echoed");
        style = new CallStyle();
        style.oneWay = "nothing";
        Types oneWay = types(style);
        oneWay.nothing("one way");
        one("one-way", "nothing", "Ljava/lang/String;", null, null, "one way");
        style = new CallStyle();
        style.timeoutMs = 300;
        Types hurried = types(style);
        String outcome;
        try {
            outcome = hurried.sleep(1000, "late");
        } catch (RuntimeException expected) {
            outcome = expected.getClass().getSimpleName();
        }
        one("timeout", "sleep", "ILjava/lang/String;", "RpcException", outcome, 1000, "late");
        // The late reply is part of what is recorded, and comes before the next call.
        pause(1000);
    }

    private void generics(String kind) {
        Generic generic = generic(Types.class.getName(), kind);
        for (Case each : Cases.all()) {
            if (!GENERIC.containsKey(each.name)) {
                continue;
            }
            String[] types = new String[each.types.length];
            for (int i = 0; i < types.length; i++) {
                types[i] = each.types[i].getName();
            }
            Object[] values = kind.equals("gson") ? GENERIC.get(each.name) : generalize(each.arguments);
            Object got;
            String why = null;
            try {
                got = generic.invoke(each.method, types, values);
            } catch (RuntimeException thrown) {
                got = thrown.getClass().getName();
                why = each.result instanceof Throwable ? null : "threw " + thrown;
            }
            line("generic " + kind + ", " + each.name, "$invoke", "Ljava/lang/String;[Ljava/lang/String;[Ljava/lang/Object;",
                    new Object[] {each.method, types, values}, got, why);
        }
    }

    private void one(String name, String method, String descriptor, Object expected, Object got, Object... arguments) {
        String want = Describe.loosely(expected);
        String have = Describe.loosely(got);
        line(name, method, descriptor, arguments, expected, want.equals(have) ? null : "gave " + have);
    }

    private static void pause(int ms) {
        try {
            Thread.sleep(ms);
        } catch (InterruptedException stopped) {
            throw new IllegalStateException(stopped);
        }
    }

    private static void report(Case each, String why) {
        line(each.name, each.method, each.descriptor(), each.arguments, each.result, why);
    }

    private static void line(String name, String method, String descriptor, Object[] arguments, Object result, String why) {
        String outcome = why == null ? "\"pass\"" : "\"fail\", \"why\": " + Describe.string(why);
        System.out.println(described(name, method, descriptor, arguments, result) + ", \"outcome\": " + outcome + "}");
    }

    /** A call as the members of a JSON object that is left open. */
    static String described(String name, String method, String descriptor, Object[] arguments, Object result) {
        StringBuilder out = new StringBuilder("{\"name\": ").append(Describe.string(name));
        out.append(", \"method\": ").append(Describe.string(method));
        out.append(", \"descriptor\": ").append(Describe.string(descriptor)).append(", \"arguments\": [");
        for (int i = 0; i < arguments.length; i++) {
            out.append(i == 0 ? "" : ", ").append(Describe.value(arguments[i]));
        }
        return out.append("], \"result\": ").append(Describe.value(result)).toString();
    }
}
