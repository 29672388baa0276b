import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Iterator;
import java.util.List;
import java.util.Map;
import org.apache.flink.api.common.eventtime.WatermarkStrategy;
import org.apache.flink.api.common.functions.OpenContext;
import org.apache.flink.api.common.serialization.SimpleStringSchema;
import org.apache.flink.api.common.state.MapState;
import org.apache.flink.api.common.state.MapStateDescriptor;
import org.apache.flink.api.common.typeinfo.TypeInformation;
import org.apache.flink.api.common.typeinfo.Types;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.connector.base.DeliveryGuarantee;
import org.apache.flink.connector.kafka.sink.KafkaRecordSerializationSchema;
import org.apache.flink.connector.kafka.sink.KafkaSink;
import org.apache.flink.connector.kafka.source.KafkaSource;
import org.apache.flink.connector.kafka.source.enumerator.initializer.OffsetsInitializer;
import org.apache.flink.streaming.api.CheckpointingMode;
import org.apache.flink.streaming.api.datastream.DataStream;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.streaming.api.functions.co.KeyedCoProcessFunction;
import org.apache.flink.util.Collector;

/** W1 live: every order with the last click of the same user and item in the 30 minutes before it, exactly once. W1 SERVERS CLICKS ORDERS OUT [MS] */
public class W1 {
  static final ObjectMapper JSON = new ObjectMapper();
  static final long WINDOW = 30 * 60_000L;

  public static class Row {
    public String id;
    public String user;
    public String item;
    public double price;
    public long ts;

    static Row read(String text, String id) throws Exception {
      JsonNode node = JSON.readTree(text);
      Row row = new Row();
      row.id = node.get(id).asText();
      row.user = node.get("user_id").asText();
      row.item = node.get("item_id").asText();
      row.price = node.path("price").asDouble();
      row.ts = node.get("ts").asLong();
      return row;
    }
  }

  static DataStream<Row> read(StreamExecutionEnvironment env, String servers, String topic, String id) {
    KafkaSource<String> source =
        KafkaSource.<String>builder()
            .setBootstrapServers(servers)
            .setTopics(topic)
            .setGroupId("flink-" + topic)
            .setStartingOffsets(OffsetsInitializer.earliest())
            .setProperty("isolation.level", "read_committed")
            .setValueOnlyDeserializer(new SimpleStringSchema())
            .build();
    return env.fromSource(source, WatermarkStrategy.noWatermarks(), topic)
        .map(text -> Row.read(text, id))
        .returns(TypeInformation.of(Row.class))
        .assignTimestampsAndWatermarks(
            WatermarkStrategy.<Row>forBoundedOutOfOrderness(Duration.ZERO)
                .withTimestampAssigner((row, before) -> row.ts)
                .withIdleness(Duration.ofSeconds(1)));
  }

  /** Keeps clicks of half an hour, and orders until the watermark has passed them. */
  static class Attribute extends KeyedCoProcessFunction<String, Row, Row, String> {
    transient MapState<Long, List<Row>> clicks;
    transient MapState<Long, List<Row>> orders;

    @Override
    public void open(OpenContext context) {
      TypeInformation<List<Row>> rows = Types.LIST(TypeInformation.of(Row.class));
      clicks = getRuntimeContext().getMapState(new MapStateDescriptor<>("clicks", Types.LONG, rows));
      orders = getRuntimeContext().getMapState(new MapStateDescriptor<>("orders", Types.LONG, rows));
    }

    static void add(MapState<Long, List<Row>> state, Row row) throws Exception {
      List<Row> rows = state.get(row.ts);
      if (rows == null) rows = new ArrayList<>();
      rows.add(row);
      state.put(row.ts, rows);
    }

    @Override
    public void processElement1(Row click, Context context, Collector<String> out) throws Exception {
      add(clicks, click);
      context.timerService().registerEventTimeTimer(click.ts + WINDOW + 1);
    }

    @Override
    public void processElement2(Row order, Context context, Collector<String> out) throws Exception {
      add(orders, order);
      context.timerService().registerEventTimeTimer(order.ts);
    }

    @Override
    public void onTimer(long time, OnTimerContext context, Collector<String> out) throws Exception {
      List<Row> due = orders.get(time);
      if (due != null) {
        Row last = null;
        for (Map.Entry<Long, List<Row>> entry : clicks.entries()) {
          if (entry.getKey() > time || entry.getKey() < time - WINDOW) continue;
          for (Row click : entry.getValue()) {
            boolean later = last == null || click.ts > last.ts || (click.ts == last.ts && click.id.compareTo(last.id) > 0);
            if (later) last = click;
          }
        }
        for (Row order : due) {
          ObjectNode row = JSON.createObjectNode();
          row.put("order_id", order.id).put("user_id", order.user).put("item_id", order.item).put("price", order.price).put("ts", order.ts);
          row.put("click_id", last == null ? null : last.id);
          if (last == null) row.putNull("click_ts"); else row.put("click_ts", last.ts);
          out.collect(row.toString());
        }
        orders.remove(time);
      }
      Iterator<Map.Entry<Long, List<Row>>> old = clicks.iterator();
      while (old.hasNext()) if (old.next().getKey() + WINDOW < time) old.remove();
    }
  }

  public static void main(String[] args) throws Exception {
    String servers = args[0];
    int every = args.length > 4 ? Integer.parseInt(args[4]) : 100;
    Configuration configuration = new Configuration();
    configuration.setString("rest.port", "0");
    StreamExecutionEnvironment env = StreamExecutionEnvironment.createLocalEnvironment(1, configuration);
    env.enableCheckpointing(every, CheckpointingMode.EXACTLY_ONCE);
    env.getConfig().enableObjectReuse();
    // How often watermarks come is part of the latency, as is how long a buffer waits.
    env.getConfig().setAutoWatermarkInterval(20);
    env.setBufferTimeout(5);
    DataStream<Row> clicks = read(env, servers, args[1], "event_id");
    DataStream<Row> orders = read(env, servers, args[2], "order_id");
    DataStream<String> rows =
        clicks
            .keyBy(row -> row.user + '\u0000' + row.item)
            .connect(orders.keyBy(row -> row.user + '\u0000' + row.item))
            .process(new Attribute());
    KafkaSink<String> sink =
        KafkaSink.<String>builder()
            .setBootstrapServers(servers)
            .setRecordSerializer(
                KafkaRecordSerializationSchema.builder().setTopic(args[3]).setValueSerializationSchema(new SimpleStringSchema()).build())
            .setDeliveryGuarantee(DeliveryGuarantee.EXACTLY_ONCE)
            .setTransactionalIdPrefix("flink-" + args[3])
            .setProperty("transaction.timeout.ms", "60000")
            .build();
    rows.sinkTo(sink);
    env.execute("w1");
  }
}
