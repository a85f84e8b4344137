package dev.lepton.example;

import dev.lepton.v1.GenerateRequest;
import dev.lepton.v1.GenerateResponse;
import dev.lepton.v1.GenerationServiceGrpc;
import dev.lepton.v1.StopCriteria;
import io.grpc.Context;
import io.grpc.ManagedChannel;
import io.grpc.StatusRuntimeException;
import java.io.File;
import java.io.IOException;
import java.util.Iterator;
import java.util.concurrent.TimeUnit;

/** Streams a completion to standard output. LEPTON_CA and LEPTON_TOKEN, where set, encrypt and authenticate. */
public final class Main {
  private static final int MAX_TOKENS = 64;

  private Main() {}

  /** Arguments: the target and the prompt, both optional. */
  public static void main(String[] arguments) throws IOException {
    String target = arguments.length > 0 ? arguments[0] : "localhost:50051";
    String prompt = arguments.length > 1 ? arguments[1] : "Once upon a time";
    String authority = System.getenv("LEPTON_CA");
    ManagedChannel channel =
        authority == null
            ? Connection.plaintext(target)
            : Connection.encrypted(target, new File(authority), System.getenv("LEPTON_TOKEN"));
    // Cancelling the context cancels the calls made in it: the server stops the work within one step.
    Context.CancellableContext context = Context.current().withCancellation();
    Runtime.getRuntime().addShutdownHook(new Thread(() -> context.cancel(null)));
    try {
      context.run(() -> stream(channel, prompt));
    } catch (StatusRuntimeException error) {
      Failure failure = Failure.of(error);
      System.err.println(failure);
      failure.fields().forEach((field, description) -> System.err.println("  " + field + ": " + description));
    } finally {
      channel.shutdownNow();
    }
  }

  private static void stream(ManagedChannel channel, String prompt) {
    GenerateRequest request =
        GenerateRequest.newBuilder()
            .setText(prompt)
            .setStop(StopCriteria.newBuilder().setMaxTokens(MAX_TOKENS))
            .build();
    Iterator<GenerateResponse> events =
        GenerationServiceGrpc.newBlockingStub(channel).withDeadlineAfter(60, TimeUnit.SECONDS).generate(request);
    while (events.hasNext()) {
      GenerateResponse event = events.next();
      switch (event.getEventCase()) {
        case DELTA -> {
          System.out.print(event.getDelta().getText());
          System.out.flush();
        }
        case FINISHED ->
            System.out.printf(
                "%n[%s, %d tokens]%n",
                event.getFinished().getReason(), event.getFinished().getUsage().getGeneratedTokens());
        default -> { // Started, and kinds that this client does not know
        }
      }
    }
  }
}
