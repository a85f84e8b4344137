package dev.lepton.example;

import com.google.protobuf.Any;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.protobuf.util.Durations;
import com.google.rpc.BadRequest;
import com.google.rpc.ErrorInfo;
import com.google.rpc.RetryInfo;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.protobuf.StatusProto;
import java.time.Duration;
import java.util.Map;
import java.util.TreeMap;

/**
 * What a server says of a call that failed. The reasons are those of lepton/v1/errors.proto.
 *
 * @param reason the ErrorReason's name without its prefix (QUEUE_FULL); empty where gRPC itself answered.
 * @param figures the reason's metadata, by name.
 * @param fields fields at fault: path to the value found and what is allowed.
 * @param retryAfter how long to wait before the same call; null where the server did not say.
 */
public record Failure(
    Status.Code code,
    String message,
    String reason,
    Map<String, String> figures,
    Map<String, String> fields,
    Duration retryAfter) {

  /** Reads the details of an error that a call threw. */
  public static Failure of(StatusRuntimeException error) {
    String reason = "";
    Map<String, String> figures = Map.of();
    Map<String, String> fields = new TreeMap<>();
    Duration retryAfter = null;
    com.google.rpc.Status status = StatusProto.fromThrowable(error);
    try {
      for (Any detail : status.getDetailsList()) {
        if (detail.is(ErrorInfo.class)) {
          ErrorInfo info = detail.unpack(ErrorInfo.class);
          reason = info.getReason();
          figures = info.getMetadataMap();
        } else if (detail.is(BadRequest.class)) {
          for (BadRequest.FieldViolation violation : detail.unpack(BadRequest.class).getFieldViolationsList()) {
            fields.put(violation.getField(), violation.getDescription());
          }
        } else if (detail.is(RetryInfo.class)) {
          retryAfter = Duration.ofNanos(Durations.toNanos(detail.unpack(RetryInfo.class).getRetryDelay()));
        }
      }
    } catch (InvalidProtocolBufferException malformed) {
      throw new IllegalStateException("the server's error details are malformed", malformed);
    }
    return new Failure(error.getStatus().getCode(), status.getMessage(), reason, figures, fields, retryAfter);
  }

  /** The failure in one line. */
  @Override
  public String toString() {
    String named = reason.isEmpty() ? "" : " (" + reason + ")";
    String hint = retryAfter == null ? "" : "; try again in " + retryAfter;
    return code + named + ": " + message + hint;
  }
}
