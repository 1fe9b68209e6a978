"""fastjson2's binary JSON, JSONB: reader, writer, and the classes of the JDK in it."""
