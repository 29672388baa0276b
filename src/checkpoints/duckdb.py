"""Runs the SQL on stdin with DuckDB; writes the rows of every statement that has any as one JSON array of objects."""

import datetime
import decimal
import json
import math
import sys

import duckdb


def value(it):
    if it is None or isinstance(it, (bool, int, str)):
        return json.dumps(it, ensure_ascii=False)
    if isinstance(it, float):
        return json.dumps(it) if math.isfinite(it) else json.dumps(str(it))
    if isinstance(it, decimal.Decimal):
        return json.dumps(format(it, "f"))
    if isinstance(it, (list, tuple)):
        return "[" + ",".join(value(each) for each in it) + "]"
    if isinstance(it, dict):
        return row([str(key) for key in it], it.values())
    if isinstance(it, (bytes, bytearray)):
        return json.dumps(it.hex())
    if isinstance(it, (datetime.datetime, datetime.date, datetime.time)):
        return json.dumps(it.isoformat(" ") if isinstance(it, datetime.datetime) else it.isoformat())
    return json.dumps(str(it), ensure_ascii=False)


def row(names, values):
    pairs = zip(names, values)
    return "{" + ",".join(json.dumps(name, ensure_ascii=False) + ":" + value(it) for name, it in pairs) + "}"


def main():
    sys.stdin.reconfigure(encoding="utf-8")
    sys.stdout.reconfigure(encoding="utf-8")
    connection = duckdb.connect()
    for statement in connection.extract_statements(sys.stdin.read()):
        connection.execute(statement)
        has_rows = statement.type not in (duckdb.StatementType.CREATE, duckdb.StatementType.SET)
        if has_rows and connection.description:
            names = [column[0] for column in connection.description]
            rows = [row(names, values) for values in connection.fetchall()]
            print("[" + ",\n".join(rows) + "]")


try:
    main()
except duckdb.Error as error:
    sys.exit(str(error))
