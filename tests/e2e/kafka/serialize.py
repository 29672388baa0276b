"""Writes rows to a topic with Confluent's own client and serializers, which share no line with riverrun.

Read from stdin: one JSON object per topic: {"topic", "format": "avro" | "protobuf" | "json", "schema", "rows"}. A row of Avro is the object that
the schema describes, a row of Protobuf the message in the JSON form of Protobuf, one of JSON itself; `"bytes": true` in place of a schema writes the rows,
in hexadecimal, as they are, each by itself or with key and headers. With "read" in place of rows, the topic is read by the deserializer, and its rows are printed;
with the format "raw" its records, in hexadecimal, each with its partition and offset.
"""
import datetime
import decimal
import json
import sys

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer
from confluent_kafka.serialization import MessageField, SerializationContext

servers, registry = sys.argv[1:3]
client = SchemaRegistryClient({"url": registry})


def protobuf(schema):
    """The class of the last message of a schema, which is a FileDescriptorProto in JSON."""
    from google.protobuf import descriptor_pb2, json_format, message_factory, descriptor_pool
    from google.protobuf import timestamp_pb2, wrappers_pb2

    file = json_format.Parse(json.dumps(schema), descriptor_pb2.FileDescriptorProto())
    pool = descriptor_pool.Default()
    pool.Add(file)
    name = f"{file.package}.{file.message_type[-1].name}"
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(name)), json_format


def write(task):
    producer = Producer({"bootstrap.servers": servers})
    context = SerializationContext(task["topic"], MessageField.VALUE)
    if task.get("bytes"):
        encode = bytes.fromhex
    elif task["format"] == "avro":
        serializer = AvroSerializer(client, json.dumps(task["schema"]))
        encode = lambda row: serializer(revived(row), context)
    elif task["format"] == "json":
        from confluent_kafka.schema_registry.json_schema import JSONSerializer

        serializer = JSONSerializer(json.dumps(task["schema"]), client)
        encode = lambda row: serializer(row, context)
    else:
        from confluent_kafka.schema_registry.protobuf import ProtobufSerializer

        kind, json_format = protobuf(task["schema"])
        serializer = ProtobufSerializer(kind, client, {"use.deprecated.format": False})
        encode = lambda row: serializer(json_format.ParseDict(row, kind()), context)
    for index, row in enumerate(task["rows"]):
        key = headers = None
        if isinstance(row, dict) and "value" in row:
            row, key, headers = row["value"], row.get("key"), row.get("headers")
        value = None if row is None else encode(row)
        producer.produce(task["topic"], value, key, partition=index % task.get("partitions", 1), headers=headers)
    producer.flush()


def revived(value):
    """What JSON has no word for: {"decimal": "1.50"}, {"time": "2026-01-01T00:00:00Z"}, {"date": ...}, {"hex": ...}."""
    if isinstance(value, dict) and len(value) == 1:
        (kind, text), = value.items()
        if kind == "decimal":
            return decimal.Decimal(text)
        if kind == "time":
            return datetime.datetime.fromisoformat(text)
        if kind == "date":
            return datetime.date.fromisoformat(text)
        if kind == "hex":
            return bytes.fromhex(text)
    if isinstance(value, dict):
        return {name: revived(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [revived(inner) for inner in value]
    return value


def read(task):
    consumer = Consumer({"bootstrap.servers": servers, "group.id": "x", "isolation.level": "read_committed",
                         "enable.partition.eof": True, "enable.auto.commit": False})
    partitions = consumer.list_topics(task["topic"], 10).topics[task["topic"]].partitions
    consumer.assign([TopicPartition(task["topic"], number, 0) for number in partitions])
    plain = bytes.hex if task["format"] == "raw" else bytes.decode
    deserializers = {"raw": lambda value, context: value.hex(), "json": lambda value, context: json.loads(value)}
    deserializer = AvroDeserializer(client) if task["format"] == "avro" else deserializers[task["format"]]
    context, ended = SerializationContext(task["topic"], MessageField.VALUE), set()
    while len(ended) < len(partitions):
        message = consumer.poll(10)
        if message is None:
            raise SystemExit("the topic does not answer")
        if message.error():
            ended.add(message.partition())
            continue
        headers = {name: plain(value) for name, value in message.headers() or []}
        value = None if message.value() is None else deserializer(message.value(), context)
        key = None if message.key() is None else plain(message.key())
        record = {"key": key, "headers": headers, "value": value}
        if task["format"] == "raw":
            record["place"] = [message.partition(), message.offset()]
        print(json.dumps(record, default=str))
    consumer.close()


for line in sys.stdin:
    task = json.loads(line)
    if "compatibility" in task:
        client.set_compatibility(task["subject"], task["compatibility"])
    elif task.get("number"):
        print(client.get_latest_version(task["subject"]).schema_id)
    elif task.get("read"):
        read(task)
    else:
        write(task)
