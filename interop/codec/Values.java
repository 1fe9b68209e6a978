import java.io.ByteArrayOutputStream;
import java.io.File;
import java.io.OutputStream;
import java.io.PrintStream;
import java.io.Serializable;
import java.lang.reflect.Method;
import java.math.BigDecimal;
import java.math.BigInteger;
import java.time.*;
import java.util.*;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;

/**
 * What a release of Dubbo writes for single values in one of its serializations.
 *
 * <p>Arguments: {@code org.apache.dubbo} or {@code com.alibaba.dubbo}, and the serialization. Prints
 * lines "name TAB hex", "name TAB ! error" where it cannot.
 */
public class Values {
    public enum Color { RED, GREEN, BLUE { @Override public String toString() { return "blue"; } } }

    public static class Named implements Serializable {
        private String name;
        public Named() { }
        Named(String name) { this.name = name; }
        public String getName() { return name; }
        public void setName(String value) { name = value; }
    }

    public static class Person extends Named {
        private int age;
        private Color color;
        public Person() { }
        Person(String name, int age) { super(name); this.age = age; }
        public int getAge() { return age; }
        public void setAge(int value) { age = value; }
        public Color getColor() { return color; }
        public void setColor(Color value) { color = value; }
    }

    public static class Holder implements Serializable {
        private Object any;
        private List<Object> list;
        private Map<Object, Object> map;
        private Person first;
        private Person second;
        private Holder self;
        private float small = 0.1f;
        public Object getAny() { return any; }
        public void setAny(Object value) { any = value; }
        public List<Object> getList() { return list; }
        public void setList(List<Object> value) { list = value; }
        public Map<Object, Object> getMap() { return map; }
        public void setMap(Map<Object, Object> value) { map = value; }
        public Person getFirst() { return first; }
        public void setFirst(Person value) { first = value; }
        public Person getSecond() { return second; }
        public void setSecond(Person value) { second = value; }
        public Holder getSelf() { return self; }
        public void setSelf(Holder value) { self = value; }
        public float getSmall() { return small; }
        public void setSmall(float value) { small = value; }
    }

    static final Map<String, Object> all = new LinkedHashMap<>();

    static List<Object> list(Object... values) {
        return new ArrayList<>(Arrays.asList(values));
    }

    static Map<Object, Object> map(Object... entries) {
        Map<Object, Object> made = new LinkedHashMap<>();
        for (int i = 0; i < entries.length; i += 2) made.put(entries[i], entries[i + 1]);
        return made;
    }

    static void put(String name, Object value) {
        all.put(name, value);
    }

    /** Beans with one field, and what looks like them. */
    static void names() {
        put("bean of a name", new Named("bob"));
        put("bean of a name in capitals", new Named("BOB"));
        put("bean with a name and zeros", new Person("bob", 0));
        put("bean with a name in capitals and zeros", new Person("BOB", 0));
        put("enum", Color.RED);
        put("enum with a body", Color.BLUE);
        put("beans beside enums", list(new Named("RED"), Color.RED, new Person("bob", 0), Color.BLUE));
        Holder holder = new Holder();
        holder.any = new Named("RED");
        holder.list = list(new Named("RED"), Color.RED);
        put("beans beside enums in a bean", holder);
        put("EnumSet", EnumSet.of(Color.RED, Color.BLUE));
        put("empty EnumSet", EnumSet.noneOf(Color.class));
        put("EnumMap", new EnumMap<>(Collections.singletonMap(Color.RED, 1)));
    }

    static void keys() {
        put("beans as keys", map(new Person("bob", 1), 1, new Named("X"), 2));
        put("maps as keys", map(map("a", 1), "x", map("b", list(1, 2)), "y"));
        put("lists as keys", map(list(1, "a"), "x", list(list("q\"")), "y"));
        put("scalars as keys", map(LocalDate.of(2020, 1, 2), 1, new BigDecimal("1.50"), 2, 2.5f, 3, 5L, 4, true, 5));
    }

    static void shared() {
        Person one = new Person("one", 1);
        Holder holder = new Holder();
        holder.first = one;
        holder.second = one;
        put("shared by fields", holder);
        put("shared in a list", list(one, one, list(one)));
        put("shared in an array", new Object[] {one, one, new Object[] {one}});
        put("shared behind names with dots and spaces",
                map("a.b", map("z", one), "x y", map("q", one, "it", list(one)), "r", one));
        for (String name : new String[] {"a b", "a\"b", "a\\b", "\u043a\u043b\u044e\u0447", "", "$ref", "a/b-c_d", "a[0]", "it's", "12"}) {
            put("shared behind the name " + name, map(name, one, "o", one));
        }
        put("shared behind an Integer", map(1, one, "o", one));
        put("shared behind a Long", map(1L, one, "o", one));
        put("shared behind null", map(null, one, "o", one));
        put("shared behind an enum", map(Color.RED, one, "o", one));
        put("shared behind a bean", map(one, one, "o", one));
        put("shared behind a Date", map(new Date(0), one, "o", one));
        Holder self = new Holder();
        self.self = self;
        put("cycle of one", self);
        Holder left = new Holder();
        Holder right = new Holder();
        left.self = right;
        right.self = left;
        put("cycle of two", left);
        Holder listed = new Holder();
        listed.list = list(1);
        listed.list.add(listed);
        put("cycle through a list", listed);
    }

    static void numbers() {
        put("float", 0.1f);
        put("floats", list(0.1f, 3.4028235e38f, 1.4e-45f, 16777216f, 1e10f, 1.17549435e-38f, 0.001f, -9.5367e-7f, 123456.79f));
        put("float[]", new float[] {0.1f, 1f});
        put("bean with a float", new Holder());
    }

    static void immutable() {
        put("List.of", List.of(1, 2));
        put("empty List.of", List.of());
        put("Set.of", Set.of(1));
        put("Map.of", Map.of("a", 1));
        put("List.of in a list", list(List.of(1, 2), Map.of("a", 1)));
        put("array of List.of", new List<?>[] {List.of(1), List.of(2)});
        Holder holder = new Holder();
        holder.list = List.of("a", 1);
        holder.map = Map.of("k", "v");
        put("List.of in a bean", holder);
    }

    static void jdk() throws Exception {
        put("Date", new Date(1582934400123L));
        put("Date far away", new Date(253402300800000L));
        put("sql.Date", new java.sql.Date(1582934400000L));
        put("sql.Time", new java.sql.Time(3723000L));
        java.sql.Timestamp stamp = new java.sql.Timestamp(1582934400000L);
        stamp.setNanos(123456789);
        put("sql.Timestamp", stamp);
        Calendar calendar = Calendar.getInstance(TimeZone.getTimeZone("UTC"));
        calendar.setTimeInMillis(1582934400123L);
        put("Calendar", calendar);
        put("Instant", Instant.ofEpochSecond(5, 123456789));
        put("LocalDate", LocalDate.of(2020, 2, 29));
        put("LocalDate far away", LocalDate.of(12345, 2, 28));
        put("LocalDate before", LocalDate.of(-5, 2, 28));
        put("LocalTime", LocalTime.of(1, 2, 3, 456789012));
        put("LocalTime of minutes", LocalTime.of(1, 2));
        put("LocalDateTime", LocalDateTime.of(2020, 2, 29, 1, 2, 3, 456789012));
        put("OffsetDateTime", OffsetDateTime.of(2020, 2, 29, 1, 2, 3, 4, ZoneOffset.ofHoursMinutes(5, 30)));
        put("OffsetTime", OffsetTime.of(1, 2, 3, 4, ZoneOffset.ofHours(-3)));
        put("ZonedDateTime", ZonedDateTime.of(2020, 2, 29, 1, 2, 3, 4, ZoneId.of("Europe/Paris")));
        put("Duration", Duration.ofSeconds(3661, 5));
        put("Duration below zero", Duration.ofMillis(-1500));
        put("Period", Period.of(1, -2, 3));
        put("Year", Year.of(2020));
        put("YearMonth", YearMonth.of(2020, 2));
        put("MonthDay", MonthDay.of(2, 29));
        put("ZoneOffset", ZoneOffset.ofHoursMinutesSeconds(-2, -30, -5));
        put("ZoneId", ZoneId.of("Europe/Paris"));
        put("UUID", new UUID(1, 2));
        put("Locale", new Locale("de", "CH"));
        put("Locale with a variant", new Locale("de", "CH", "POSIX"));
        put("Class", String.class);
        put("File", new File("/tmp/x"));
        put("Currency", Currency.getInstance("EUR"));
        put("AtomicInteger", new AtomicInteger(3));
        put("URI", java.net.URI.create("http://a.b/c"));
        put("DayOfWeek", DayOfWeek.MONDAY);
        put("TimeUnit", TimeUnit.SECONDS);
        put("half a pair", "a\ud800b");
        put("char that is half a pair", '\ud800');
        put("BigInteger", new BigInteger("12345678901234567890123"));
        put("BigDecimal", new BigDecimal("9.90"));
        put("NaN", Double.NaN);
        put("infinity", Double.NEGATIVE_INFINITY);
    }

    static String hex(byte[] data) {
        StringBuilder text = new StringBuilder();
        for (byte each : data) text.append(String.format("%02x", each));
        return text.toString();
    }

    /** The serialization, and the URL that it wants; Dubbo 3 has its extensions in models. */
    static Object[] serialization(String dubbo, String name) throws Exception {
        Class<?> kind = Class.forName(dubbo + ".common.serialize.Serialization");
        Object loader;
        Object url = null;
        try {
            Class<?> frameworks = Class.forName(dubbo + ".rpc.model.FrameworkModel");
            Object framework = frameworks.getMethod("defaultModel").invoke(null);
            Object application = frameworks.getMethod("newApplication").invoke(framework);
            Object module = application.getClass().getMethod("newModule").invoke(application);
            loader = frameworks.getMethod("getExtensionLoader", Class.class).invoke(framework, kind);
            Class<?> urls = Class.forName(dubbo + ".common.URL");
            url = urls.getMethod("valueOf", String.class).invoke(null, "dubbo://127.0.0.1:1/x");
            Class<?> scope = Class.forName(dubbo + ".rpc.model.ScopeModel");
            url = urls.getMethod("setScopeModel", scope).invoke(url, module);
        } catch (NoSuchMethodException | ClassNotFoundException older) {
            Class<?> loaders = Class.forName(dubbo + ".common.extension.ExtensionLoader");
            loader = loaders.getMethod("getExtensionLoader", Class.class).invoke(null, kind);
        }
        return new Object[] {loader.getClass().getMethod("getExtension", String.class).invoke(loader, name), url};
    }

    public static void main(String[] arguments) throws Exception {
        String dubbo = arguments[0];
        PrintStream out = new PrintStream(System.out, true, "UTF-8");
        names();
        keys();
        shared();
        numbers();
        immutable();
        jdk();
        Object[] made = serialization(dubbo, arguments[1]);
        Class<?> kind = Class.forName(dubbo + ".common.serialize.Serialization");
        Class<?> output = Class.forName(dubbo + ".common.serialize.ObjectOutput");
        Method serialize = kind.getMethod("serialize", Class.forName(dubbo + ".common.URL"), OutputStream.class);
        for (Map.Entry<String, Object> each : all.entrySet()) {
            String text;
            try {
                ByteArrayOutputStream bytes = new ByteArrayOutputStream();
                Object writer = serialize.invoke(made[0], made[1], bytes);
                output.getMethod("writeObject", Object.class).invoke(writer, each.getValue());
                output.getMethod("flushBuffer").invoke(writer);
                text = hex(bytes.toByteArray());
            } catch (java.lang.reflect.InvocationTargetException problem) {
                text = "! " + problem.getCause().getClass().getName();
            }
            out.println(each.getKey() + "\t" + text);
        }
        System.exit(0);
    }
}
