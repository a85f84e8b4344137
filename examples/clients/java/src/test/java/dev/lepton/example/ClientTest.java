package dev.lepton.example;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.protobuf.util.Durations;
import dev.lepton.v1.CompleteRequest;
import dev.lepton.v1.CompleteResponse;
import dev.lepton.v1.FinishReason;
import dev.lepton.v1.GenerateRequest;
import dev.lepton.v1.GenerateResponse;
import dev.lepton.v1.GenerationServiceGrpc;
import dev.lepton.v1.GetStatsRequest;
import dev.lepton.v1.SamplingParams;
import dev.lepton.v1.Stats;
import dev.lepton.v1.StatsServiceGrpc;
import dev.lepton.v1.StopCriteria;
import io.grpc.Context;
import io.grpc.ManagedChannel;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import java.io.File;
import java.util.Iterator;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.condition.EnabledIfEnvironmentVariable;

/** Against the server that LEPTON_TARGET names; see README.md. */
@Timeout(60)
class ClientTest {
  private static final String PROMPT = "Once upon a time";

  private ManagedChannel channel;
  private GenerationServiceGrpc.GenerationServiceBlockingStub generation;

  @BeforeEach
  void connect() throws Exception {
    String target = System.getenv("LEPTON_TARGET");
    assertTrue(target != null, "LEPTON_TARGET names no server; see README.md");
    channel = Connection.plaintext(target);
    generation = GenerationServiceGrpc.newBlockingStub(channel).withDeadlineAfter(60, TimeUnit.SECONDS);
  }

  @AfterEach
  void disconnect() {
    channel.shutdownNow();
  }

  private static GenerateRequest.Builder ask(int tokens) {
    return GenerateRequest.newBuilder()
        .setText(PROMPT)
        .setStop(StopCriteria.newBuilder().setMaxTokens(tokens).setIgnoreEos(true));
  }

  private Failure failureOf(GenerateRequest request) {
    return Failure.of(
        assertThrows(
            StatusRuntimeException.class, () -> generation.generate(request).forEachRemaining(event -> {})));
  }

  @Test
  void streams() {
    StringBuilder text = new StringBuilder();
    int tokens = 0;
    int deltas = 0;
    GenerateResponse last = null;
    for (Iterator<GenerateResponse> events = generation.generate(ask(12).build()); events.hasNext(); ) {
      last = events.next();
      if (last.hasDelta()) {
        deltas++;
        tokens += last.getDelta().getTokenIdsCount();
        text.append(last.getDelta().getText());
      }
    }
    assertEquals(12, tokens);
    assertTrue(deltas > 1 && text.length() > 0, text.toString());
    assertEquals(FinishReason.FINISH_REASON_LENGTH, last.getFinished().getReason());
    assertEquals(12, last.getFinished().getUsage().getGeneratedTokens());
  }

  @Test
  void cancelStopsTheWork() {
    Context.CancellableContext context = Context.current().withCancellation();
    StatusRuntimeException error =
        assertThrows(
            StatusRuntimeException.class,
            () ->
                context.run(
                    () -> {
                      Iterator<GenerateResponse> events = generation.generate(ask(400).build());
                      events.next();
                      context.cancel(null);
                      events.forEachRemaining(event -> {});
                    }));
    assertEquals(Status.Code.CANCELLED, Failure.of(error).code());
    StatsServiceGrpc.StatsServiceBlockingStub service = StatsServiceGrpc.newBlockingStub(channel);
    Stats stats;
    do { // bounded by the test's own time limit
      stats = service.getStats(GetStatsRequest.getDefaultInstance()).getStats();
    } while (stats.getRunning() > 0 || stats.getWaiting() > 0 || stats.getAborted() == 0);
  }

  @Test
  void deadline() {
    CompleteRequest request = CompleteRequest.newBuilder().setText(PROMPT).build();
    StatusRuntimeException error =
        assertThrows(
            StatusRuntimeException.class,
            () -> generation.withDeadlineAfter(1, TimeUnit.MILLISECONDS).complete(request));
    assertEquals(Status.Code.DEADLINE_EXCEEDED, Failure.of(error).code());
  }

  @Test
  void badRequestNamesTheField() {
    Failure failure = failureOf(ask(4).setSampling(SamplingParams.newBuilder().setTopP(2)).build());
    assertEquals(Status.Code.INVALID_ARGUMENT, failure.code());
    assertEquals("INVALID_FIELD", failure.reason());
    assertTrue(failure.fields().get("sampling.top_p").contains("2"), failure.toString());
  }

  @Test
  void refusalSaysWhenToTryAgain() {
    Failure failure = failureOf(ask(4).setMaxQueueTime(Durations.fromNanos(1)).build());
    assertEquals(Status.Code.RESOURCE_EXHAUSTED, failure.code());
    assertEquals("QUEUE_TIMEOUT", failure.reason());
    assertTrue(failure.retryAfter().toNanos() > 0, failure.toString());
  }

  @Test
  @EnabledIfEnvironmentVariable(named = "LEPTON_TLS_TARGET", matches = ".+")
  void tlsWithToken() throws Exception {
    File authority = new File(System.getenv("LEPTON_CA"));
    String target = System.getenv("LEPTON_TLS_TARGET");
    ManagedChannel secure = Connection.encrypted(target, authority, System.getenv("LEPTON_TOKEN"));
    try {
      CompleteRequest request =
          CompleteRequest.newBuilder()
              .setText(PROMPT)
              .setStop(StopCriteria.newBuilder().setMaxTokens(4).setIgnoreEos(true))
              .build();
      CompleteResponse answer = GenerationServiceGrpc.newBlockingStub(secure).complete(request);
      assertEquals(4, answer.getChoices(0).getTokenIdsCount());
    } finally {
      secure.shutdownNow();
    }
  }
}
