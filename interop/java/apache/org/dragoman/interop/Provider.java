package org.dragoman.interop;

import java.util.HashMap;
import java.util.Map;
import java.util.concurrent.CountDownLatch;
import org.apache.dubbo.config.ApplicationConfig;
import org.apache.dubbo.config.ProtocolConfig;
import org.apache.dubbo.config.RegistryConfig;
import org.apache.dubbo.config.ServiceConfig;
import org.apache.dubbo.config.bootstrap.DubboBootstrap;
import org.apache.dubbo.rpc.RpcContext;
import org.apache.dubbo.rpc.service.GenericException;
import org.apache.dubbo.rpc.service.GenericService;

/**
 * Serves {@link Types} three times (plain, {@code blue/1.0.0}, {@code green/2.0.0}) and a generic
 * service, until SIGTERM. Settings: port, host, serialization, threads, registry, token, path (of the
 * plain one), contextpath, application.NAME and protocol.NAME (parameters).
 */
public final class Provider {
    private Provider() {}

    public static void main(String[] arguments) throws InterruptedException {
        Settings settings = new Settings(arguments);
        ApplicationConfig application = new ApplicationConfig("dragoman-interop-provider");
        application.setQosEnable(false);
        application.setParameters(settings.under("application"));
        ProtocolConfig protocol = new ProtocolConfig("dubbo", settings.get("port", 20880));
        if (settings.has("host")) {
            protocol.setHost(settings.get("host", ""));
        }
        protocol.setThreads(settings.get("threads", 200));
        protocol.setSerialization(settings.get("serialization", "hessian2"));
        Map<String, String> parameters = new HashMap<>(settings.under("protocol"));
        parameters.put("prefer.serialization", settings.get("serialization", "hessian2"));
        protocol.setParameters(parameters);
        if (settings.has("contextpath")) {
            protocol.setContextpath(settings.get("contextpath", ""));
        }
        ServiceConfig<Types> plain = types("", "");
        if (settings.has("path")) {
            plain.setPath(settings.get("path", ""));
        }
        if (settings.has("token")) {
            plain.setToken(settings.get("token", ""));
        }
        DubboBootstrap bootstrap = DubboBootstrap.getInstance();
        bootstrap
                .application(application)
                .registry(new RegistryConfig(settings.get("registry", "N/A")))
                .protocol(protocol)
                .service(plain)
                .service(types("blue", "1.0.0"))
                .service(types("green", "2.0.0"))
                .service(dynamic())
                .start();
        System.out.println("ready " + settings.get("port", 20880));
        // Dubbo's own shutdown hook takes its time for calls under way.
        new CountDownLatch(1).await();
    }

    private static ServiceConfig<Types> types(String group, String version) {
        ServiceConfig<Types> service = new ServiceConfig<>();
        service.setInterface(Types.class);
        // 2.7 takes two services of one interface without ids for one.
        service.setId("types-" + group);
        service.setRef(new TypesService(group + "/" + version, new Context()));
        if (!group.isEmpty()) {
            service.setGroup(group);
            service.setVersion(version);
        }
        return service;
    }

    private static ServiceConfig<GenericService> dynamic() {
        ServiceConfig<GenericService> service = new ServiceConfig<>();
        service.setId("dynamic");
        service.setInterface("org.dragoman.interop.Dynamic");
        service.setRef(
                (method, types, values) -> {
                    if (method.equals("fail")) {
                        throw new GenericException(new IllegalStateException("generic"));
                    }
                    Map<String, Object> result = new HashMap<>();
                    result.put("method", method);
                    result.put("values", values);
                    return result;
                });
        return service;
    }

    private static final class Context implements Surroundings {
        @Override
        public Map<String, Object> received() {
            return new HashMap<>(RpcContext.getContext().getObjectAttachments());
        }

        @Override
        public void answer(String key, String value) {
            RpcContext.getServerContext().setAttachment(key, value);
        }
    }
}
