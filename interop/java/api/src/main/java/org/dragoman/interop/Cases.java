package org.dragoman.interop;

import java.math.BigDecimal;
import java.math.BigInteger;
import java.time.LocalDate;
import java.time.LocalDateTime;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.Date;
import java.util.HashMap;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Optional;

/** All calls that are tried, with every argument and result type. */
public final class Cases {
    private final List<Case> cases = new ArrayList<>();

    private Cases() {}

    /** The calls, in an order that never changes. */
    public static List<Case> all() {
        Cases made = new Cases();
        made.primitives();
        made.boxes();
        made.texts();
        made.numbersAndTimes();
        made.arrays();
        made.collections();
        made.beans();
        made.anything();
        made.calls();
        return made.cases;
    }

    private void echo(String name, String method, Class<?> type, Object value) {
        add(name, method, new Class<?>[] {type}, new Object[] {value}, value);
    }

    private void add(String name, String method, Class<?>[] types, Object[] arguments, Object result) {
        cases.add(new Case(name, method, types, arguments, result));
    }

    private void primitives() {
        echo("boolean true", "primitiveBoolean", boolean.class, true);
        echo("boolean false", "primitiveBoolean", boolean.class, false);
        echo("byte -128", "primitiveByte", byte.class, (byte) -128);
        echo("short 32767", "primitiveShort", short.class, (short) 32767);
        echo("char letter", "primitiveChar", char.class, 'x');
        echo("char chinese", "primitiveChar", char.class, '\u4e2d');
        for (int each : new int[] {0, -16, 47, 48, -2048, 2047, -262144, 262143, 262144, Integer.MIN_VALUE, Integer.MAX_VALUE}) {
            echo("int " + each, "primitiveInt", int.class, each);
        }
        for (long each : new long[] {0, -8, 15, 16, -2048, 2047, -262144, 262143, 262144, Integer.MIN_VALUE, 2147483648L, Long.MIN_VALUE, Long.MAX_VALUE}) {
            echo("long " + each, "primitiveLong", long.class, each);
        }
        echo("float 1.5", "primitiveFloat", float.class, 1.5f);
        echo("float 0.1", "primitiveFloat", float.class, 0.1f);
        for (double each : new double[] {0.0, 1.0, -128.0, 127.0, 128.0, -32768.0, 32767.0, 12.25, 0.1, 3.14, -0.0, 1e300, Double.MIN_VALUE}) {
            echo("double " + each, "primitiveDouble", double.class, each);
        }
        echo("double NaN", "primitiveDouble", double.class, Double.NaN);
        echo("double infinity", "primitiveDouble", double.class, Double.POSITIVE_INFINITY);
    }

    private void boxes() {
        echo("Boolean", "boxedBoolean", Boolean.class, true);
        echo("Boolean null", "boxedBoolean", Boolean.class, null);
        echo("Byte", "boxedByte", Byte.class, (byte) 7);
        echo("Short", "boxedShort", Short.class, (short) -300);
        echo("Character", "boxedChar", Character.class, 'c');
        echo("Integer", "boxedInt", Integer.class, 70000);
        echo("Integer null", "boxedInt", Integer.class, null);
        echo("Long", "boxedLong", Long.class, 5L);
        echo("Long null", "boxedLong", Long.class, null);
        echo("Float", "boxedFloat", Float.class, 2.5f);
        echo("Double", "boxedDouble", Double.class, 2.0);
    }

    private void texts() {
        echo("String", "text", String.class, "hello");
        echo("String empty", "text", String.class, "");
        echo("String null", "text", String.class, null);
        echo("String chinese", "text", String.class, "\u4f60\u597d\uff0c\u4e16\u754c");
        echo("String emoji", "text", String.class, "a\ud83d\ude00b");
        echo("String escapes", "text", String.class, "\"\\/\b\f\n\r\t\u0001\u2028</script>");
        echo("String nul", "text", String.class, "a\u0000b");
        echo("String 31", "text", String.class, letters(31));
        echo("String 32", "text", String.class, letters(32));
        echo("String 1023", "text", String.class, letters(1023));
        echo("String 1024", "text", String.class, letters(1024));
        echo("String chunked", "text", String.class, letters(33000) + "\ud83d\ude00" + letters(100));
        // The pair lies across what hessian2 takes for a chunk.
        echo("String pair at chunk end", "text", String.class, letters(0x7fff) + "\ud83d\ude00" + letters(10));
    }

    private void numbersAndTimes() {
        echo("BigDecimal", "decimal", BigDecimal.class, new BigDecimal("12345678901234567890.123450"));
        echo("BigDecimal negative", "decimal", BigDecimal.class, new BigDecimal("-0.50"));
        echo("BigInteger", "integer", BigInteger.class, new BigInteger("123456789012345678901234567890"));
        echo("Date", "date", Date.class, new Date(1582934400123L));
        echo("Date whole minute", "date", Date.class, new Date(1582934400000L));
        echo("Date before 1970", "date", Date.class, new Date(-86400001L));
        echo("LocalDate", "localDate", LocalDate.class, LocalDate.of(2020, 2, 29));
        echo("LocalDateTime", "localDateTime", LocalDateTime.class, LocalDateTime.of(2020, 2, 29, 23, 59, 58, 123000000));
        echo("Optional", "optional", Optional.class, Optional.of("there"));
        echo("enum", "color", Color.class, Color.GREEN);
        echo("enum with body", "color", Color.class, Color.BLUE);
        echo("enum null", "color", Color.class, null);
    }

    private void arrays() {
        echo("byte[]", "bytes", byte[].class, new byte[] {0, 1, -1, 127, -128});
        echo("byte[] empty", "bytes", byte[].class, new byte[0]);
        echo("byte[] null", "bytes", byte[].class, null);
        byte[] large = new byte[9000];
        for (int i = 0; i < large.length; i++) {
            large[i] = (byte) i;
        }
        echo("byte[] chunked", "bytes", byte[].class, large);
        echo("int[]", "ints", int[].class, new int[] {1, -1, Integer.MAX_VALUE});
        echo("int[] empty", "ints", int[].class, new int[0]);
        echo("int[] of 9", "ints", int[].class, new int[] {1, 2, 3, 4, 5, 6, 7, 8, 9});
        echo("long[]", "longs", long[].class, new long[] {1, Long.MAX_VALUE});
        echo("double[]", "doubles", double[].class, new double[] {1.0, 0.1});
        echo("String[]", "texts", String[].class, new String[] {"a", null, "\u4e2d"});
        echo("bean[]", "lines", Line[].class, new Line[] {line("a", 1), line("b", 2)});
    }

    private void collections() {
        echo("List", "list", List.class, new ArrayList<>(Arrays.asList("a", "", null, "d")));
        echo("List empty", "list", List.class, new ArrayList<>());
        echo("List of 8", "list", List.class, new ArrayList<>(Arrays.asList("1", "2", "3", "4", "5", "6", "7", "8")));
        echo("Set", "set", java.util.Set.class, new HashSet<>(Arrays.asList("a", "b")));
        echo("Map", "map", Map.class, new HashMap<>(Collections.singletonMap("one", 1)));
        Map<String, Integer> map = new HashMap<>();
        map.put("a", 1);
        map.put("b", null);
        echo("Map with null", "map", Map.class, map);
        Map<Long, String> keys = new HashMap<>();
        keys.put(1L, "one");
        keys.put(5000000000L, "many");
        echo("Map with long keys", "longKeys", Map.class, keys);
        Map<String, List<Map<Integer, Line>>> nested = new HashMap<>();
        List<Map<Integer, Line>> inner = new ArrayList<>();
        inner.add(new HashMap<>(Collections.singletonMap(3, line("x", 3))));
        inner.add(new HashMap<>());
        nested.put("k", inner);
        echo("nested generics", "nested", Map.class, nested);
    }

    private void beans() {
        echo("bean", "order", Order.class, fill(new Order()));
        echo("bean of defaults", "order", Order.class, new Order());
        echo("bean null", "order", Order.class, null);
        UrgentOrder urgent = fill(new UrgentOrder());
        urgent.setHours(4);
        echo("subclass", "order", Order.class, urgent);
        echo("List of beans", "orders", List.class, new ArrayList<>(Arrays.asList(fill(new Order()), fill(new Order()))));
        Node tail = new Node();
        tail.setName("tail");
        Node head = new Node();
        head.setName("head");
        head.setNext(tail);
        echo("chain", "node", Node.class, head);
        Node self = new Node();
        self.setName("self");
        self.setNext(self);
        echo("cycle", "node", Node.class, self);
    }

    private void anything() {
        echo("Object String", "any", Object.class, "text");
        echo("Object Integer", "any", Object.class, 5);
        echo("Object Long", "any", Object.class, 5L);
        echo("Object Double", "any", Object.class, 5.0);
        echo("Object Boolean", "any", Object.class, true);
        echo("Object null", "any", Object.class, null);
        echo("Object Date", "any", Object.class, new Date(1582934400123L));
        echo("Object BigDecimal", "any", Object.class, new BigDecimal("1.50"));
        echo("Object BigInteger", "any", Object.class, new BigInteger("18446744073709551616"));
        echo("Object enum", "any", Object.class, Color.RED);
        echo("Object bean", "any", Object.class, line("a", 1));
        echo("Object int[]", "any", Object.class, new int[] {1, 2});
        echo("Object byte[]", "any", Object.class, new byte[] {1, 2});
        echo("Object Object[]", "any", Object.class, new Object[] {1, "a", null});
        echo("Object List", "any", Object.class, new ArrayList<>(Arrays.asList(1, "a", 2L, null)));
        echo("Object LinkedHashMap", "any", Object.class, new LinkedHashMap<>(Collections.singletonMap("k", 1)));
        echo("Object LinkedHashSet", "any", Object.class, new LinkedHashSet<>(Arrays.asList(1, 2)));
        List<Object> twice = new ArrayList<>();
        Line line = line("same", 1);
        twice.add(line);
        twice.add(line);
        echo("Object same bean twice", "any", Object.class, twice);
    }

    private void calls() {
        Class<?>[] none = {};
        Class<?>[] text = {String.class};
        add("zero arguments", "noArguments", none, new Object[0], "no arguments");
        add("void", "nothing", text, new Object[] {"x"}, null);
        add("null result", "nullResult", text, new Object[] {"x"}, null);
        add("overloaded int", "overloaded", new Class<?>[] {int.class}, new Object[] {5}, "int 5");
        add("overloaded long", "overloaded", new Class<?>[] {long.class}, new Object[] {5L}, "long 5");
        add("overloaded String", "overloaded", text, new Object[] {"a"}, "String a");
        add("overloaded two", "overloaded", new Class<?>[] {String.class, int.class}, new Object[] {"a", 2}, "String a int 2");
        add("declared exception", "refuse", text, new Object[] {"no \u4e2d"}, new RefusedException("no \u4e2d", 17));
        add("RuntimeException", "fail", text, new Object[] {"broken"}, new IllegalStateException("broken"));
        add("exception with cause", "failWithCause", text, new Object[] {"deep"}, new BrokenException("deep", null));
        add("large reply", "letters", new Class<?>[] {int.class}, new Object[] {300000}, letters(300000));
    }

    /** As {@link TypesService#letters}. */
    static String letters(int size) {
        return new TypesService("", null).letters(size);
    }

    private static Line line(String article, int count) {
        return new Line(article, count, new BigDecimal("9.90"));
    }

    private static <T extends Order> T fill(T order) {
        order.setId(7000000000L);
        order.setCreated(new Date(1582934400123L));
        order.setCustomer("Zo\u00eb");
        order.setColor(Color.RED);
        order.setPaid(true);
        order.setWeight(2.0);
        order.setLines(new ArrayList<>(Arrays.asList(line("a", 1), line("b", 2))));
        order.setTags(new HashMap<>(Collections.singletonMap("k", "v")));
        return order;
    }
}
