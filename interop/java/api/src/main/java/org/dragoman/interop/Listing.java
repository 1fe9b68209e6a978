package org.dragoman.interop;

import java.lang.reflect.Type;

/**
 * Prints all {@link Cases}, a line of JSON each, for those who make the calls from elsewhere; "types"
 * are the parameters' as the source has them.
 */
public final class Listing {
    private Listing() {}

    public static void main(String[] arguments) throws NoSuchMethodException {
        for (Case each : Cases.all()) {
            StringBuilder types = new StringBuilder();
            for (Type type : Types.class.getMethod(each.method, each.types).getGenericParameterTypes()) {
                types.append(types.length() == 0 ? "" : ", ").append(Describe.string(type.getTypeName()));
            }
            String line = Calls.described(each.name, each.method, each.descriptor(), each.arguments, each.result);
            System.out.println(line + ", \"types\": [" + types + "]}");
        }
    }
}
