"""What must come out of the job under fault, computed by DuckDB from the raw input, against what came out.

Run in a folder with clicks.lines, orders.lines, counts.lines and out.jsonl. Says how many rows agree, or which do not.
"""

import sys

import duckdb

# As in the job file.
CREDIT_MS = 5000
WINDOW_MS = 1000

db = duckdb.connect()
for name, path in [("clicks", "clicks.lines"), ("orders", "orders.lines"), ("counts", "counts.lines"), ("out", "out.jsonl")]:
    db.execute(
        f"""create table raw_{name} as select line from read_csv('{path}', columns = {{'line': 'VARCHAR'}}, header = false,
            delim = '\x01', quote = '', escape = '', auto_detect = false, max_line_size = 33554432)"""
    )

# A row is an object with a whole number for time, and texts or nulls where texts belong. The rows that close the input lie
# a minute after all others.
db.execute(
    """
create macro texts(line, name) as coalesce(json_type(line, name), 'NULL') in ('VARCHAR', 'NULL');
create macro is_row(line) as json_valid(line) and json_type(line) = 'OBJECT'
    and coalesce(json_type(line, '$.ts'), '') in ('UBIGINT', 'BIGINT');
create table clicks as
    select line->>'$.event_id' as id, line->>'$.user_id' as user, line->>'$.item_id' as item,
           line->>'$.event_type' as kind, (line->>'$.ts')::bigint as ts
    from (select line from raw_clicks where case when json_valid(line) then is_row(line) else false end)
    where texts(line, '$.event_id') and texts(line, '$.user_id') and texts(line, '$.item_id') and texts(line, '$.event_type');
create table orders as
    select distinct line->>'$.order_id' as id, line->>'$.user_id' as user, line->>'$.item_id' as item,
           (line->>'$.price')::decimal(12, 2) as price, (line->>'$.ts')::bigint as ts
    from raw_orders;
delete from clicks where id like 'end-%';
delete from orders where id like 'end-%';
"""
)

db.execute(
    f"""
create table expected as
    with touched as (
        select o.id, o.user, o.item, o.price, o.ts, max_by({{'id': c.id, 'ts': c.ts}}, {{'ts': c.ts, 'id': c.id}})
                filter (where c.id is not null) as touch
        from orders o left join clicks c
            on c.user = o.user and c.item = o.item and c.kind = 'click' and c.ts between o.ts - {CREDIT_MS} and o.ts
        group by all)
    select id, user, item, price, ts, touch.id as touch_id, touch.ts as touch_ts, touch is not null as attributed from touched;
create table given as
    select line->>'$.order_id' as id, line->>'$.user_id' as user, line->>'$.item_id' as item,
           (line->>'$.price')::decimal(12, 2) as price, (line->>'$.ts')::bigint as ts,
           line->>'$.touch_event_id' as touch_id, (line->>'$.touch_ts')::bigint as touch_ts,
           (line->>'$.attributed')::boolean as attributed
    from raw_out;
create table expected_counts as
    select ts - ts % {WINDOW_MS} as start, item, count(*) filter (where kind = 'impression') as impressions,
           count(*) filter (where kind = 'click') as clicks
    from clicks group by all;
create table given_counts as
    select (line->>'$.window_start')::bigint as start, line->>'$.item_id' as item,
           (line->>'$.impressions')::bigint as impressions, (line->>'$.clicks')::bigint as clicks
    from raw_counts;
"""
)

wrong = 0
for given, expected in [("given", "expected"), ("given_counts", "expected_counts")]:
    for what, query in [
        ("missing", f"select * from {expected} except all select * from {given}"),
        ("too many", f"select * from {given} except all select * from {expected}"),
    ]:
        rows = db.execute(query).fetchall()
        wrong += len(rows)
        for row in rows[:5]:
            print(what, row)
if wrong:
    sys.exit(1)
rows = [db.execute(f"select count(*) from {table}").fetchone()[0] for table in ["expected", "expected_counts"]]
print(f"{duckdb.__version__}: {rows[0]} attributed orders and {rows[1]} counts agree")
