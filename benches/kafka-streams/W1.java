// W1 as a program on Kafka Streams, as its users would write it: the Processor API, touches in a window store that is kept in memory and
// backed by a changelog topic, exactly once. Each order is credited to the last click on the same item in the 30 minutes before it.
//
// Kafka Streams has no watermark: an order is answered when it is read, so a click that is read after it is missed, and results depend on
// how the two topics happen to be read. It is spared what Riverrun does to be sure.
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.time.Duration;
import java.time.Instant;
import java.util.Properties;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.atomic.AtomicLong;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.state.Stores;
import org.apache.kafka.streams.state.WindowStore;

public final class W1 {
  static final Duration WINDOW = Duration.ofMinutes(30);
  static final ObjectMapper JSON = new ObjectMapper();
  static final AtomicLong read = new AtomicLong();

  static final class Attribute implements Processor<String, byte[], String, byte[]> {
    private ProcessorContext<String, byte[]> context;
    private WindowStore<String, String> touches;

    @Override public void init(ProcessorContext<String, byte[]> context) {
      this.context = context;
      touches = context.getStateStore("touches");
    }

    @Override public void process(Record<String, byte[]> record) {
      read.incrementAndGet();
      try {
        JsonNode row = JSON.readTree(record.value());
        long ts = row.path("ts").asLong();
        String key = row.path("user_id").asText() + "\u0000" + row.path("item_id").asText();
        if (row.has("order_id")) {
          ObjectNode out = ((ObjectNode) row).retain("order_id", "user_id", "item_id", "price", "ts");
          out.putNull("click_id");
          out.putNull("click_ts");
          try (var found = touches.backwardFetch(key, Instant.ofEpochMilli(ts).minus(WINDOW), Instant.ofEpochMilli(ts))) {
            if (found.hasNext()) {
              var touch = found.next();
              out.put("click_id", touch.value);
              out.put("click_ts", touch.key);
            }
          }
          context.forward(record.withValue(JSON.writeValueAsBytes(out)));
        } else if (row.path("event_type").asText().equals("click")) {
          touches.put(key, row.path("event_id").asText(), ts);
        }
      } catch (java.io.IOException noRow) {
        // A bad row is left out.
      }
    }
  }

  public static void main(String[] arguments) throws Exception {
    String servers = arguments[0], clicks = arguments[1], orders = arguments[2], out = arguments[3];
    long records = Long.parseLong(arguments[4]);
    Properties settings = new Properties();
    settings.put(StreamsConfig.APPLICATION_ID_CONFIG, "w1-" + out);
    settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, servers);
    settings.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, StreamsConfig.EXACTLY_ONCE_V2);
    // As often as Riverrun commits.
    settings.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, 1000);
    settings.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, 1);
    settings.put(StreamsConfig.STATE_DIR_CONFIG, System.getProperty("java.io.tmpdir") + "/streams-" + out);
    settings.put(StreamsConfig.consumerPrefix("auto.offset.reset"), "earliest");
    settings.put(StreamsConfig.DEFAULT_TIMESTAMP_EXTRACTOR_CLASS_CONFIG, Times.class);
    var strings = Serdes.String();
    var bytes = Serdes.ByteArray();
    Topology topology = new Topology();
    topology.addSource("in", strings.deserializer(), bytes.deserializer(), clicks, orders);
    topology.addProcessor("attribute", Attribute::new, "in");
    var store = Stores.inMemoryWindowStore("touches", WINDOW.multipliedBy(2), WINDOW, true);
    topology.addStateStore(Stores.windowStoreBuilder(store, strings, strings), "attribute");
    topology.addSink("out", out, strings.serializer(), bytes.serializer(), "attribute");
    KafkaStreams streams = new KafkaStreams(topology, settings);
    CountDownLatch ended = new CountDownLatch(1);
    streams.setUncaughtExceptionHandler(error -> {
      error.printStackTrace();
      System.exit(1);
      return null;
    });
    streams.start();
    while (read.get() < records) ended.await(5, java.util.concurrent.TimeUnit.MILLISECONDS);
    streams.close(Duration.ofSeconds(30));
  }

  /** The time of a row is in it. */
  public static final class Times implements org.apache.kafka.streams.processor.TimestampExtractor {
    private static final byte[] MARK = "\"ts\":".getBytes();

    @Override public long extract(org.apache.kafka.clients.consumer.ConsumerRecord<Object, Object> record, long before) {
      byte[] value = (byte[]) record.value();
      for (int at = value.length - MARK.length; at >= 0; at--) {
        int same = 0;
        while (same < MARK.length && value[at + same] == MARK[same]) same++;
        if (same < MARK.length) continue;
        long time = 0;
        for (int digit = at + same; digit < value.length && Character.isDigit(value[digit]); digit++) time = time * 10 + value[digit] - '0';
        return time;
      }
      return before;
    }
  }
}
