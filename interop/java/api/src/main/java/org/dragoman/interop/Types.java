package org.dragoman.interop;

import java.math.BigDecimal;
import java.math.BigInteger;
import java.time.LocalDate;
import java.time.LocalDateTime;
import java.util.Date;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;

/** A service with a method for every kind of argument and result. Echoes give back what they got. */
public interface Types {
    boolean primitiveBoolean(boolean value);

    byte primitiveByte(byte value);

    short primitiveShort(short value);

    char primitiveChar(char value);

    int primitiveInt(int value);

    long primitiveLong(long value);

    float primitiveFloat(float value);

    double primitiveDouble(double value);

    Boolean boxedBoolean(Boolean value);

    Byte boxedByte(Byte value);

    Short boxedShort(Short value);

    Character boxedChar(Character value);

    Integer boxedInt(Integer value);

    Long boxedLong(Long value);

    Float boxedFloat(Float value);

    Double boxedDouble(Double value);

    String text(String value);

    BigDecimal decimal(BigDecimal value);

    BigInteger integer(BigInteger value);

    Date date(Date value);

    LocalDate localDate(LocalDate value);

    LocalDateTime localDateTime(LocalDateTime value);

    Optional<String> optional(Optional<String> value);

    Color color(Color value);

    byte[] bytes(byte[] value);

    int[] ints(int[] value);

    long[] longs(long[] value);

    double[] doubles(double[] value);

    String[] texts(String[] value);

    Line[] lines(Line[] value);

    List<String> list(List<String> value);

    Set<String> set(Set<String> value);

    Map<String, Integer> map(Map<String, Integer> value);

    Map<Long, String> longKeys(Map<Long, String> value);

    Map<String, List<Map<Integer, Line>>> nested(Map<String, List<Map<Integer, Line>>> value);

    List<Order> orders(List<Order> value);

    Object any(Object value);

    Order order(Order value);

    Node node(Node value);

    /** No argument; the sizes of what comes from nowhere are easy to get wrong. */
    String noArguments();

    void nothing(String value);

    String nullResult(String value);

    String overloaded(int value);

    String overloaded(long value);

    String overloaded(String value);

    String overloaded(String value, int times);

    /** Throws what it declares. */
    String refuse(String why) throws RefusedException;

    /** Throws a RuntimeException of the JDK. */
    String fail(String why);

    /** Throws an unchecked exception of this package, with a cause. */
    String failWithCause(String why);

    /** Sleeps on a thread of the pool, then says {@code value}. */
    String sleep(int ms, String value);

    /** The String attachments that came with the call, but those that Dubbo itself sends. */
    Map<String, String> attachments();

    /** {@code size} letters. */
    String letters(int size);

    /** Which of several services this is: {@code group/version}. */
    String which();
}
