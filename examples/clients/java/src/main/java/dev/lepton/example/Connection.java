package dev.lepton.example;

import com.google.protobuf.Struct;
import com.google.protobuf.Value;
import com.google.protobuf.util.JsonFormat;
import io.grpc.CallCredentials;
import io.grpc.ChannelCredentials;
import io.grpc.CompositeChannelCredentials;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.ManagedChannel;
import io.grpc.TlsChannelCredentials;
import java.io.File;
import java.io.IOException;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.io.Reader;
import java.nio.charset.StandardCharsets;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.TimeUnit;

/** Channels with the settings that Lepton publishes for its clients. */
public final class Connection {
  private static final String SERVICE_CONFIG = "service_config.json";
  private static final int MAX_RESPONSE_BYTES = 64 << 20;

  private Connection() {}

  /** A plaintext channel. A target like dns:///name:50051 is balanced over. */
  public static ManagedChannel plaintext(String target) throws IOException {
    return channel(target, InsecureChannelCredentials.create());
  }

  /**
   * An encrypted channel.
   *
   * @param authority PEM file of the authority to trust; null trusts those of the Java runtime.
   * @param token sent with every call as `authorization: Bearer TOKEN`; null for none.
   */
  public static ManagedChannel encrypted(String target, File authority, String token) throws IOException {
    TlsChannelCredentials.Builder tls = TlsChannelCredentials.newBuilder();
    if (authority != null) {
      tls.trustManager(authority);
    }
    ChannelCredentials credentials = tls.build();
    if (token != null) {
      CallCredentials bearer = new BearerToken(token);
      credentials = CompositeChannelCredentials.create(credentials, bearer);
    }
    return channel(target, credentials);
  }

  private static ManagedChannel channel(String target, ChannelCredentials credentials) throws IOException {
    return Grpc.newChannelBuilder(target, credentials)
        // Spreads calls over all addresses and tries those again that failed before they computed anything.
        .defaultServiceConfig(serviceConfig())
        .enableRetry()
        // A stream may be silent while its request waits; pings tell a slow server from a dead one.
        .keepAliveTime(20, TimeUnit.SECONDS)
        .keepAliveTimeout(10, TimeUnit.SECONDS)
        .maxInboundMessageSize(MAX_RESPONSE_BYTES)
        .build();
  }

  private static Map<String, ?> serviceConfig() throws IOException {
    Struct.Builder config = Struct.newBuilder();
    try (InputStream stream = Connection.class.getResourceAsStream(SERVICE_CONFIG);
        Reader reader = new InputStreamReader(stream, StandardCharsets.UTF_8)) {
      JsonFormat.parser().merge(reader, config);
    }
    return plain(config.build());
  }

  private static Map<String, Object> plain(Struct struct) {
    Map<String, Object> map = new TreeMap<>();
    struct.getFieldsMap().forEach((name, value) -> map.put(name, plain(value)));
    return map;
  }

  private static List<Object> plain(List<Value> values) {
    return values.stream().map(Connection::plain).toList();
  }

  private static Object plain(Value value) {
    return switch (value.getKindCase()) {
      case NUMBER_VALUE -> value.getNumberValue();
      case STRING_VALUE -> value.getStringValue();
      case BOOL_VALUE -> value.getBoolValue();
      case STRUCT_VALUE -> plain(value.getStructValue());
      case LIST_VALUE -> plain(value.getListValue().getValuesList());
      default -> throw new IllegalArgumentException("a service config has no null");
    };
  }
}
