package org.dragoman.interop;

import java.util.HashMap;
import java.util.Map;
import org.apache.dubbo.common.utils.PojoUtils;
import org.apache.dubbo.config.ApplicationConfig;
import org.apache.dubbo.config.MethodConfig;
import org.apache.dubbo.config.ReferenceConfig;
import org.apache.dubbo.config.RegistryConfig;
import org.apache.dubbo.config.bootstrap.DubboBootstrap;
import org.apache.dubbo.rpc.RpcContext;
import org.apache.dubbo.rpc.service.EchoService;
import org.apache.dubbo.rpc.service.GenericService;

/**
 * Calls {@link Types} with all that {@link Cases} holds, and in every call style; prints a line of JSON
 * for each call. Settings: address (host:port,...) or registry, serialization, heartbeat (ms), only (a
 * part of the names), linger (ms before the end), reference.NAME (parameters).
 */
public final class Consumer extends Calls {
    private final Settings settings;

    private Consumer(Settings settings) {
        super(settings);
        this.settings = settings;
    }

    public static void main(String[] arguments) throws Exception {
        Settings settings = new Settings(arguments);
        ApplicationConfig application = new ApplicationConfig("dragoman-interop-consumer");
        application.setQosEnable(false);
        DubboBootstrap.getInstance()
                .application(application)
                .registry(new RegistryConfig(settings.get("registry", "N/A")))
                .start();
        new Consumer(settings).run();
        System.exit(0);
    }

    private <T> T reference(ReferenceConfig<T> reference, String path, CallStyle style) {
        Map<String, String> parameters = new HashMap<>(settings.under("reference"));
        String serialization = settings.get("serialization", "hessian2");
        parameters.put("heartbeat", settings.get("heartbeat", "60000"));
        if (settings.has("address")) {
            StringBuilder urls = new StringBuilder();
            for (String address : settings.get("address", "").split(",")) {
                urls.append(urls.length() == 0 ? "" : ";").append("dubbo://" + address + "/" + path);
                urls.append("?serialization=" + serialization + "&prefer.serialization=" + serialization);
            }
            reference.setUrl(urls.toString());
        }
        reference.setParameters(parameters);
        reference.setCheck(true);
        reference.setRetries(settings.get("retries", 0));
        reference.setTimeout(style.timeoutMs);
        if (!style.group.isEmpty()) {
            reference.setGroup(style.group);
            reference.setVersion(style.version);
        }
        if (style.oneWay != null) {
            MethodConfig method = new MethodConfig();
            method.setName(style.oneWay);
            method.setReturn(false);
            reference.setMethods(java.util.Collections.singletonList(method));
        }
        return reference.get();
    }

    @Override
    protected Types types(CallStyle style) {
        ReferenceConfig<Types> reference = new ReferenceConfig<>();
        reference.setInterface(Types.class);
        return reference(reference, Types.class.getName(), style);
    }

    @Override
    protected Generic generic(String path, String kind) {
        ReferenceConfig<GenericService> reference = new ReferenceConfig<>();
        reference.setInterface(path);
        reference.setGeneric(kind);
        GenericService service = reference(reference, path, new CallStyle());
        return (method, types, values) -> service.$invoke(method, types, values);
    }

    @Override
    protected Object echo(Types types, Object value) {
        return ((EchoService) types).$echo(value);
    }

    @Override
    protected Object[] generalize(Object[] values) {
        return PojoUtils.generalize(values);
    }

    @Override
    protected void attach(Map<String, String> attachments) {
        RpcContext.getContext().clearAttachments();
        attachments.forEach(RpcContext.getContext()::setAttachment);
    }

    @Override
    protected String answered(String key) {
        return RpcContext.getServerContext().getAttachment(key);
    }
}
