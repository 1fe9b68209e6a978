package org.dragoman.interop;

import java.math.BigDecimal;
import java.math.BigInteger;
import java.time.LocalDate;
import java.time.LocalDateTime;
import java.util.Arrays;
import java.util.Date;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.TreeMap;

/** {@link Types} as a provider serves it. */
public class TypesService implements Types {
    // What Dubbo itself puts among the attachments.
    private static final Set<String> OWN =
            new HashSet<>(
                    Arrays.asList(
                            "path", "interface", "version", "group", "timeout", "token", "generic",
                            "input", "output", "dubbo", "_TO", "async", "side", "remote.application",
                            "id", "isCallbackServiceInvoke", "dubbo.tag", "_TIMEOUT_COUNTDOWN",
                            "timeout-countdown", "dubboApplication", "sid", "return", "method"));

    private final String name;
    private final Surroundings surroundings;

    /** {@code name} is what {@link #which} says. */
    public TypesService(String name, Surroundings surroundings) {
        this.name = name;
        this.surroundings = surroundings;
    }

    @Override
    public boolean primitiveBoolean(boolean value) {
        return value;
    }

    @Override
    public byte primitiveByte(byte value) {
        return value;
    }

    @Override
    public short primitiveShort(short value) {
        return value;
    }

    @Override
    public char primitiveChar(char value) {
        return value;
    }

    @Override
    public int primitiveInt(int value) {
        return value;
    }

    @Override
    public long primitiveLong(long value) {
        return value;
    }

    @Override
    public float primitiveFloat(float value) {
        return value;
    }

    @Override
    public double primitiveDouble(double value) {
        return value;
    }

    @Override
    public Boolean boxedBoolean(Boolean value) {
        return value;
    }

    @Override
    public Byte boxedByte(Byte value) {
        return value;
    }

    @Override
    public Short boxedShort(Short value) {
        return value;
    }

    @Override
    public Character boxedChar(Character value) {
        return value;
    }

    @Override
    public Integer boxedInt(Integer value) {
        return value;
    }

    @Override
    public Long boxedLong(Long value) {
        return value;
    }

    @Override
    public Float boxedFloat(Float value) {
        return value;
    }

    @Override
    public Double boxedDouble(Double value) {
        return value;
    }

    @Override
    public String text(String value) {
        return value;
    }

    @Override
    public BigDecimal decimal(BigDecimal value) {
        return value;
    }

    @Override
    public BigInteger integer(BigInteger value) {
        return value;
    }

    @Override
    public Date date(Date value) {
        return value;
    }

    @Override
    public LocalDate localDate(LocalDate value) {
        return value;
    }

    @Override
    public LocalDateTime localDateTime(LocalDateTime value) {
        return value;
    }

    @Override
    public Optional<String> optional(Optional<String> value) {
        return value;
    }

    @Override
    public Color color(Color value) {
        return value;
    }

    @Override
    public byte[] bytes(byte[] value) {
        return value;
    }

    @Override
    public int[] ints(int[] value) {
        return value;
    }

    @Override
    public long[] longs(long[] value) {
        return value;
    }

    @Override
    public double[] doubles(double[] value) {
        return value;
    }

    @Override
    public String[] texts(String[] value) {
        return value;
    }

    @Override
    public Line[] lines(Line[] value) {
        return value;
    }

    @Override
    public List<String> list(List<String> value) {
        return value;
    }

    @Override
    public Set<String> set(Set<String> value) {
        return value;
    }

    @Override
    public Map<String, Integer> map(Map<String, Integer> value) {
        return value;
    }

    @Override
    public Map<Long, String> longKeys(Map<Long, String> value) {
        return value;
    }

    @Override
    public Map<String, List<Map<Integer, Line>>> nested(Map<String, List<Map<Integer, Line>>> value) {
        // Wrong generics would show here, not only at the caller.
        for (List<Map<Integer, Line>> list : value.values()) {
            for (Map<Integer, Line> each : list) {
                for (Map.Entry<Integer, Line> entry : each.entrySet()) {
                    if (entry.getKey() != entry.getValue().getCount()) {
                        throw new IllegalArgumentException("the key is the count");
                    }
                }
            }
        }
        return value;
    }

    @Override
    public List<Order> orders(List<Order> value) {
        long ids = 0;
        for (Order order : value) {
            ids += order.getId();
        }
        if (ids == 0 && !value.isEmpty()) {
            throw new IllegalArgumentException("orders have ids");
        }
        return value;
    }

    @Override
    public Object any(Object value) {
        return value;
    }

    @Override
    public Order order(Order value) {
        return value;
    }

    @Override
    public Node node(Node value) {
        return value;
    }

    @Override
    public String noArguments() {
        return "no arguments";
    }

    @Override
    public void nothing(String value) {}

    @Override
    public String nullResult(String value) {
        return null;
    }

    @Override
    public String overloaded(int value) {
        return "int " + value;
    }

    @Override
    public String overloaded(long value) {
        return "long " + value;
    }

    @Override
    public String overloaded(String value) {
        return "String " + value;
    }

    @Override
    public String overloaded(String value, int times) {
        return "String " + value + " int " + times;
    }

    @Override
    public String refuse(String why) throws RefusedException {
        throw new RefusedException(why, 17);
    }

    @Override
    public String fail(String why) {
        throw new IllegalStateException(why);
    }

    @Override
    public String failWithCause(String why) {
        throw new BrokenException(why, new IllegalArgumentException("the cause"));
    }

    @Override
    public String sleep(int ms, String value) {
        // 2.7 interrupts the threads of its pool as soon as it is told to stop.
        boolean interrupted = false;
        long until = System.nanoTime() + ms * 1_000_000L;
        for (long left = until - System.nanoTime(); left > 0; left = until - System.nanoTime()) {
            try {
                Thread.sleep(left / 1_000_000, (int) (left % 1_000_000));
            } catch (InterruptedException told) {
                interrupted = true;
            }
        }
        if (interrupted) {
            Thread.currentThread().interrupt();
        }
        return value;
    }

    @Override
    public Map<String, String> attachments() {
        Map<String, String> those = new TreeMap<>();
        for (Map.Entry<String, Object> entry : surroundings.received().entrySet()) {
            if (entry.getValue() instanceof String && !OWN.contains(entry.getKey())) {
                those.put(entry.getKey(), (String) entry.getValue());
            }
        }
        surroundings.answer("answered-by", name);
        return those;
    }

    @Override
    public String letters(int size) {
        char[] letters = new char[size];
        for (int i = 0; i < size; i++) {
            letters[i] = (char) ('a' + i % 26);
        }
        return new String(letters);
    }

    @Override
    public String which() {
        return name;
    }
}
