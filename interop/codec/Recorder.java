import com.alibaba.com.caucho.hessian.io.Hessian2Input;
import com.alibaba.com.caucho.hessian.io.Hessian2Output;
import java.io.BufferedReader;
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.io.Serializable;
import java.lang.reflect.Array;
import java.lang.reflect.Field;
import java.lang.reflect.Modifier;
import java.math.BigDecimal;
import java.math.BigInteger;
import java.nio.charset.StandardCharsets;
import java.time.*;
import java.util.*;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.atomic.AtomicLong;

/**
 * What hessian-lite writes for many values, and whether it reads given bytes as the same values.
 *
 * <p>{@code write}: lines "name TAB hex" on standard output, "name TAB ! error" where it cannot.
 * {@code read}: such lines on standard input; for each "name TAB same", or "name TAB" and what is
 * different: how it reads the given bytes and how it reads its own.
 */
public class Recorder {
    public enum Color { RED, GREEN, BLUE { @Override public String toString() { return "blue"; } } }

    public static class Person implements Serializable {
        String name;
        int age;
        Person friend;
        List<Person> children;
        Color color;
        Date born;
        java.sql.Timestamp changed;
        Person() { }
        Person(String name, int age) { this.name = name; this.age = age; }
    }

    public static class Employee extends Person {
        // Hides the field of the same name.
        String name;
        BigDecimal salary;
        Employee() { }
        Employee(String name, int age) { super(name + " as a person", age); this.name = name; }
    }

    public static class Named implements Serializable {
        String name;
        Named() { }
        Named(String name) { this.name = name; }
    }

    public static class Empty implements Serializable { }

    public static class C00 implements Serializable { int x = 1; }
    public static class C01 extends C00 { }
    public static class C02 extends C00 { }
    public static class C03 extends C00 { }
    public static class C04 extends C00 { }
    public static class C05 extends C00 { }
    public static class C06 extends C00 { }
    public static class C07 extends C00 { }
    public static class C08 extends C00 { }
    public static class C09 extends C00 { }
    public static class C10 extends C00 { }
    public static class C11 extends C00 { }
    public static class C12 extends C00 { }
    public static class C13 extends C00 { }
    public static class C14 extends C00 { }
    public static class C15 extends C00 { }
    public static class C16 extends C00 { }
    public static class C17 extends C00 { }

    static String repeat(String text, int count) {
        StringBuilder all = new StringBuilder();
        for (int i = 0; i < count; i++) all.append(text);
        return all.toString();
    }

    static byte[] bytes(int count) {
        byte[] all = new byte[count];
        for (int i = 0; i < count; i++) all[i] = (byte) i;
        return all;
    }

    static List<Integer> numbers(int count) {
        List<Integer> all = new ArrayList<>();
        for (int i = 0; i < count; i++) all.add(i);
        return all;
    }

    static Object[] seventeenClasses() {
        return new Object[] {
            new C00(), new C01(), new C02(), new C03(), new C04(), new C05(), new C06(), new C07(),
            new C08(), new C09(), new C10(), new C11(), new C12(), new C13(), new C14(), new C15(),
            new C16(), new C17(), new C16(), new C15(), new C00(),
        };
    }

    static Throwable failure() {
        Throwable cause = new IllegalStateException("the cause");
        cause.setStackTrace(new StackTraceElement[] {
            new StackTraceElement("a.B", "m", "B.java", 7),
        });
        RuntimeException failure = new RuntimeException("no \u4e2d", cause);
        failure.setStackTrace(new StackTraceElement[] {
            new StackTraceElement("a.C", "n", null, -2),
        });
        return failure;
    }

    static Throwable plainFailure() {
        Throwable failure = new IllegalArgumentException("plain");
        failure.setStackTrace(new StackTraceElement[0]);
        return failure;
    }

    static Map<String, Object> values() throws Exception {
        Map<String, Object> all = new LinkedHashMap<>();
        all.put("null", null);
        all.put("true", true);
        all.put("false", false);
        for (int n : new int[] {0, 1, -1, -16, 47, -17, 48, -2048, 2047, -2049, 2048, -262144,
                262143, -262145, 262144, Integer.MIN_VALUE, Integer.MAX_VALUE})
            all.put("int " + n, n);
        for (long n : new long[] {0, -8, 15, -9, 16, -2048, 2047, -2049, 2048, -262144, 262143,
                -262145, 262144, Integer.MIN_VALUE, Integer.MAX_VALUE, -0x80000001L, 0x80000000L,
                Long.MIN_VALUE, Long.MAX_VALUE})
            all.put("long " + n, n);
        for (double d : new double[] {0, -0.0, 1, -1, -128, 127, -129, 128, -32768, 32767, -32769,
                32768, 0.001, -0.001, 12.25, 0.1, 1234.567, 2147483.647, 2147483.648, 1e300,
                4.9e-324, 65.5, 123456.789, -99.999, 3.0000001, 1e10,
                Double.NaN, Double.POSITIVE_INFINITY, Double.NEGATIVE_INFINITY})
            all.put("double " + d, d);
        for (float f : new float[] {0.1f, 1.5f, 3, 1e30f}) all.put("float " + f, f);
        all.put("byte", (byte) -5);
        all.put("short", (short) 300);
        all.put("char", 'x');
        for (long ms : new long[] {0, 60000, -60000, 1, -1, 59999, 1582934400123L, 128849018820000L,
                128849018880000L, -128849018880000L, -128849018940000L, -62135596800000L,
                253402300799999L, 253402300800000L, Long.MAX_VALUE, Long.MIN_VALUE})
            all.put("date " + ms, new Date(ms));
        all.put("sql date", new java.sql.Date(1582934400000L));
        all.put("sql time", new java.sql.Time(3723000L));
        all.put("sql timestamp", new java.sql.Timestamp(1582934400123L));
        for (int n : new int[] {0, 1, 31, 32, 1023, 1024, 32767, 32768, 32769, 65536})
            all.put("string " + n, repeat("a", n));
        all.put("string chinese", "\u4f60\u597d\uff0c\u4e16\u754c");
        all.put("string latin", "\u00e9\u00ff\u0100");
        all.put("string emoji", "a\ud83d\ude00b");
        all.put("string pair at a chunk's end", repeat("a", 32767) + "\ud83d\ude00b");
        all.put("string of pairs", repeat("\ud83d\ude00", 16500));
        all.put("string half a pair", "\ud83dx\ude00");
        all.put("string nul", "a\0b");
        for (int n : new int[] {0, 1, 15, 16, 1023, 1024, 4092, 4093, 4094, 10000})
            all.put("bytes " + n, bytes(n));
        all.put("BigDecimal", new BigDecimal("12345678901234567890.123450"));
        all.put("BigDecimal with exponent", new BigDecimal("-1.5E+30"));
        all.put("BigDecimal small", new BigDecimal("1E-10"));
        BigInteger big = new BigInteger("123456789012345678901234567890");
        all.put("BigInteger 0", BigInteger.ZERO);
        all.put("BigInteger", big);
        all.put("BigInteger negative", big.negate());
        all.put("BigInteger 32 bits", new BigInteger("4294967295"));
        all.put("BigIntegers of one magnitude", new ArrayList<>(Arrays.asList(big, big.negate())));
        all.put("UUID", UUID.fromString("12345678-1234-5678-9abc-def012345678"));
        all.put("Locale", Locale.SIMPLIFIED_CHINESE);
        all.put("Class", String.class);
        GregorianCalendar calendar = new GregorianCalendar(TimeZone.getTimeZone("UTC"));
        calendar.setTimeInMillis(1582934400123L);
        all.put("Calendar", calendar);
        all.put("AtomicLong", new AtomicLong(5));
        all.put("enum", Color.RED);
        all.put("enum with body", Color.BLUE);
        all.put("EnumSet", EnumSet.of(Color.RED, Color.GREEN));
        Map<Color, Integer> byColor = new HashMap<>();
        byColor.put(Color.RED, 1);
        all.put("map of enums", byColor);
        all.put("LocalDate", LocalDate.of(2020, 2, 29));
        all.put("LocalTime", LocalTime.of(1, 2, 3, 450000000));
        all.put("LocalTime nanos", LocalTime.of(1, 2, 3, 4));
        all.put("LocalDateTime", LocalDateTime.of(2020, 2, 29, 23, 59, 58, 123000000));
        all.put("Instant", Instant.ofEpochSecond(1582934400L, 123000000));
        all.put("Instant before 1970", Instant.ofEpochSecond(-1, 500000000));
        all.put("Instant nanos", Instant.ofEpochSecond(1, 1));
        all.put("Duration", Duration.ofSeconds(3661, 500000000));
        all.put("Duration negative", Duration.ofMillis(-1500));
        all.put("Period", Period.of(1, 2, 3));
        all.put("Year", Year.of(2020));
        all.put("YearMonth", YearMonth.of(2020, 2));
        all.put("MonthDay", MonthDay.of(2, 29));
        LocalDateTime local = LocalDateTime.of(2020, 2, 29, 12, 0);
        all.put("OffsetDateTime", OffsetDateTime.of(local, ZoneOffset.ofHoursMinutes(5, 30)));
        all.put("OffsetTime", OffsetTime.of(LocalTime.NOON, ZoneOffset.ofHours(-8)));
        all.put("ZonedDateTime", ZonedDateTime.of(local, ZoneId.of("Europe/Paris")));
        all.put("ZonedDateTime of an offset", ZonedDateTime.of(local, ZoneOffset.UTC));
        all.put("ZoneOffset", ZoneOffset.ofHours(8));
        all.put("ZoneId", ZoneId.of("Asia/Shanghai"));
        all.put("boolean[]", new boolean[] {true, false});
        all.put("short[]", new short[] {1, -300});
        all.put("int[]", new int[] {1, -1, Integer.MAX_VALUE});
        all.put("int[] empty", new int[0]);
        all.put("int[] of 9", new int[] {1, 2, 3, 4, 5, 6, 7, 8, 9});
        all.put("long[]", new long[] {1, Long.MAX_VALUE});
        all.put("float[]", new float[] {1, 0.1f});
        all.put("double[]", new double[] {1, 0.1});
        all.put("char[]", new char[] {'a', '\u4e2d'});
        all.put("String[]", new String[] {"a", null, "\u4e2d"});
        all.put("Object[]", new Object[] {1, "a", null});
        all.put("Integer[]", new Integer[] {1, null});
        all.put("Date[]", new Date[] {new Date(0)});
        all.put("Person[]", new Person[] {new Person("a", 1), null});
        all.put("int[][]", new int[][] {{1}, {}, {2, 3}});
        all.put("String[][]", new String[][] {{"a"}, {"b"}});
        all.put("byte[][]", new byte[][] {{1}, {2}});
        all.put("ArrayList", new ArrayList<>(Arrays.asList("a", "", null)));
        all.put("ArrayList of 8", numbers(8));
        all.put("ArrayList of 300", numbers(300));
        all.put("LinkedList", new LinkedList<>(numbers(2)));
        all.put("Arrays.asList", Arrays.asList(1, 2));
        all.put("emptyList", Collections.emptyList());
        all.put("singletonList", Collections.singletonList("a"));
        all.put("unmodifiableList", Collections.unmodifiableList(numbers(2)));
        all.put("HashSet", new HashSet<>(Arrays.asList(1, 2)));
        all.put("TreeSet", new TreeSet<>(Arrays.asList("b", "a")));
        all.put("ArrayDeque", new ArrayDeque<>(numbers(2)));
        all.put("Iterator", numbers(3).iterator());
        Map<Object, Object> map = new HashMap<>();
        map.put("a", 1);
        all.put("HashMap", map);
        all.put("LinkedHashMap", new LinkedHashMap<>(map));
        all.put("TreeMap", new TreeMap<>(map));
        all.put("ConcurrentHashMap", new ConcurrentHashMap<>(map));
        all.put("emptyMap", Collections.emptyMap());
        all.put("unmodifiableMap", Collections.unmodifiableMap(map));
        Map<Object, Object> mixed = new LinkedHashMap<>();
        mixed.put(1, "int");
        mixed.put(2L, "long");
        mixed.put(1.5, "double");
        mixed.put(true, "boolean");
        mixed.put(null, "null");
        mixed.put(new BigDecimal("1.5"), "decimal");
        all.put("map of many keys", mixed);
        Person ann = new Person("Ann", 40);
        Person bob = new Person("Bob", 7);
        bob.color = Color.GREEN;
        bob.born = new Date(1582934400123L);
        bob.changed = new java.sql.Timestamp(1582934400123L);
        ann.children = new ArrayList<>(Arrays.asList(bob, bob));
        all.put("bean", bob);
        all.put("bean with beans", ann);
        Person self = new Person("self", 1);
        self.friend = self;
        all.put("bean of itself", self);
        Person left = new Person("left", 1);
        Person right = new Person("right", 2);
        left.friend = right;
        right.friend = left;
        all.put("two beans of each other", left);
        Employee employee = new Employee("Eve", 30);
        employee.salary = new BigDecimal("10.50");
        all.put("subclass that hides a field", employee);
        all.put("bean of a name", new Named("n"));
        all.put("bean without fields", new Empty());
        all.put("seventeen classes", seventeenClasses());
        List<Object> twice = new ArrayList<>();
        twice.add(map);
        twice.add(map);
        twice.add(twice);
        all.put("list of itself", twice);
        all.put("types again", new ArrayList<>(Arrays.asList(
            new int[] {1}, new int[] {2}, new HashSet<>(Arrays.asList(1)), new TreeMap<>(map),
            new HashSet<>(Arrays.asList(2)), new TreeMap<>(map), new String[] {"a"})));
        Color same = Color.RED;
        UUID uuid = new UUID(1, 2);
        List<Object> after = new ArrayList<>();
        after.add(LocalDate.of(2020, 1, 1));
        after.add(same);
        after.add(uuid);
        after.add(Locale.FRANCE);
        after.add(new Named("x"));
        after.add(same);
        after.add(uuid);
        after.add(after.get(4));
        all.put("references after handles", after);
        all.put("Throwable", plainFailure());
        all.put("Throwable with cause", failure());
        all.put("list of small numbers", new ArrayList<>(Arrays.asList(
            (byte) 1, (short) 2, 1.5f, 'c', 3L, 4.0)));
        Map<Object, Object> small = new HashMap<>();
        small.put((short) 1, (byte) 2);
        all.put("map of small numbers", small);
        all.put("InetAddress", java.net.InetAddress.getByAddress("h", new byte[] {127, 0, 0, 1}));
        BitSet bits = new BitSet();
        bits.set(3);
        all.put("BitSet", bits);
        all.put("File", new java.io.File("/a/b"));
        all.put("List.of", List.of(1, 2));
        all.put("Map.of", Map.of("a", 1));
        all.put("Set.of", Set.of(1));
        all.put("synchronizedList", Collections.synchronizedList(numbers(2)));
        all.put("subList", numbers(5).subList(1, 3));
        all.put("Currency", Currency.getInstance("EUR"));
        all.put("StackTraceElement", new StackTraceElement("a.B", "m", "B.java", 7));
        return all;
    }

    static byte[] write(Object value) throws Exception {
        ByteArrayOutputStream bytes = new ByteArrayOutputStream();
        Hessian2Output out = new Hessian2Output(bytes);
        out.writeObject(value);
        out.flush();
        return bytes.toByteArray();
    }

    static Object read(byte[] data) throws Exception {
        return new Hessian2Input(new ByteArrayInputStream(data)).readObject();
    }

    static String hex(byte[] data) {
        StringBuilder text = new StringBuilder();
        for (byte b : data) text.append(String.format("%02x", b & 255));
        return text.toString();
    }

    static byte[] unhex(String text) {
        byte[] data = new byte[text.length() / 2];
        for (int i = 0; i < data.length; i++)
            data[i] = (byte) Integer.parseInt(text.substring(2 * i, 2 * i + 2), 16);
        return data;
    }

    /** A value with all its classes, shared and cyclic values as the number of their first place. */
    static void describe(Object value, IdentityHashMap<Object, Integer> seen, StringBuilder out)
            throws Exception {
        if (value == null) {
            out.append("null");
            return;
        }
        Class<?> kind = value.getClass();
        String name = kind.getName();
        if (value instanceof String || value instanceof Number && name.startsWith("java.")
                || value instanceof Boolean || value instanceof Character || value instanceof Enum
                || value instanceof Class || name.startsWith("java.time") || value instanceof UUID
                || value instanceof Locale || value instanceof StackTraceElement) {
            out.append(name).append(' ').append(value);
            return;
        }
        if (value instanceof Date) {
            out.append(name).append(' ').append(((Date) value).getTime());
            return;
        }
        if (value instanceof Calendar) {
            out.append(name).append(' ').append(((Calendar) value).getTimeInMillis());
            return;
        }
        Integer number = seen.get(value);
        if (number != null) {
            out.append('#').append(number);
            return;
        }
        seen.put(value, seen.size());
        out.append(name);
        if (kind.isArray()) {
            out.append('[');
            for (int i = 0; i < Array.getLength(value); i++) {
                describe(Array.get(value, i), seen, out);
                out.append(", ");
            }
            out.append(']');
        } else if (value instanceof Collection) {
            out.append('[');
            for (Object each : (Collection<?>) value) {
                describe(each, seen, out);
                out.append(", ");
            }
            out.append(']');
        } else if (value instanceof Map) {
            out.append('{');
            for (Map.Entry<?, ?> each : ((Map<?, ?>) value).entrySet()) {
                describe(each.getKey(), seen, out);
                out.append("=");
                describe(each.getValue(), seen, out);
                out.append(", ");
            }
            out.append('}');
        } else if (value instanceof Throwable) {
            Throwable failure = (Throwable) value;
            out.append(' ').append(failure.getMessage()).append(' ');
            out.append(Arrays.toString(failure.getStackTrace())).append(" by ");
            describe(failure.getCause(), seen, out);
        } else {
            out.append('(');
            for (Class<?> at = kind; at != null; at = at.getSuperclass())
                for (Field field : at.getDeclaredFields())
                    if (!Modifier.isStatic(field.getModifiers())) {
                        field.setAccessible(true);
                        out.append(field.getName()).append('=');
                        describe(field.get(value), seen, out);
                        out.append(", ");
                    }
            out.append(')');
        }
    }

    static String described(byte[] data) {
        try {
            StringBuilder out = new StringBuilder();
            describe(read(data), new IdentityHashMap<>(), out);
            return out.toString();
        } catch (Throwable error) {
            return "! " + error;
        }
    }

    public static void main(String[] arguments) throws Exception {
        PrintStream out = new PrintStream(System.out, true, "UTF-8");
        Map<String, Object> values = values();
        if (arguments[0].equals("write")) {
            for (Map.Entry<String, Object> each : values.entrySet()) {
                try {
                    out.println(each.getKey() + "\t" + hex(write(each.getValue())));
                } catch (Throwable error) {
                    out.println(each.getKey() + "\t! " + error);
                }
            }
            return;
        }
        BufferedReader lines = new BufferedReader(
            new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            String[] parts = line.split("\t", 2);
            String given = described(unhex(parts[1]));
            String own = described(write(values.get(parts[0])));
            out.println(parts[0] + "\t" + (given.equals(own) ? "same" : given + " NOT " + own));
        }
    }
}
