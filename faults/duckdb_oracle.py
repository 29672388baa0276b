"""What must come out of the job under fault, computed by DuckDB from the raw input, against what came out.

Run in a folder with clicks.lines, orders.lines, counts.lines, visits.lines and out.jsonl. Says how many rows agree, or which do not.
"""

import sys

import duckdb

# As in the job file.
CREDIT_MS = 5000
WINDOW_MS = 1000
GAP_MS = 400
VISIT_MS = 2000

db = duckdb.connect()
FILES = [(name, f"{name}.lines") for name in ["clicks", "orders", "counts", "visits"]] + [("out", "out.jsonl")]
for name, path in FILES:
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

# Gaps and islands: clicks of a user with no silence between them are an island, which is cut where it gets too long. A row belongs
# to what begins with the last beginning before it, if the last click is not too long ago.
db.execute(
    f"""
create table once as select distinct on (id) * from clicks;
create table clicked as
    select *, sum(is_new) over (partition by user order by ts, id) as island
    from (select user, id, ts, (coalesce(ts - lag(ts) over (partition by user order by ts, id) > {GAP_MS}, true))::int as is_new
          from once where kind = 'click');
create table begun as
    with recursive cut as (
        select user, island, min({{'ts': ts, 'id': id}}) as first, 0 as nth from clicked group by all
        union all
        select c.user, c.island, min({{'ts': c.ts, 'id': c.id}}), cut.nth + 1
        from cut join clicked c on c.user is not distinct from cut.user and c.island = cut.island and c.ts > cut.first.ts + {VISIT_MS}
        group by c.user, c.island, cut.nth)
    select * from cut;
create table expected_visits as
    with placed as (
        select o.user, o.ts, o.id, o.item, o.kind, b.nth, b.island,
               sum((b.nth is not null)::int) over before as visit,
               max(o.ts) filter (where o.kind = 'click') over before as last_click
        from once o left join begun b on b.user is not distinct from o.user and b.first.id = o.id
        window before as (partition by o.user order by o.ts, o.id rows unbounded preceding)),
    made as (
        select user, visit, min(ts) as start, max(ts) filter (where kind = 'click') as ended, max(nth) as nth, max(island) as island,
               count(*) as events, count(distinct item) as items, arg_min(item, {{'ts': ts, 'id': id}}) as landing
        from placed where visit > 0 and ts <= last_click + {GAP_MS} group by user, visit)
    select user, start, ended,
           case when lead(island) over (partition by user order by visit) = island then 'max_duration' else 'idle' end as closed_by,
           events, items, landing
    from made;
create table given_visits as
    select line->>'$.user_id' as user, (line->>'$.session_start')::bigint as start, (line->>'$.session_end')::bigint as ended,
           line->>'$.closed_by' as closed_by, (line->>'$.events')::bigint as events, (line->>'$.items')::bigint as items,
           line->>'$.landing' as landing
    from raw_visits;
"""
)

wrong = 0
for given, expected in [("given", "expected"), ("given_counts", "expected_counts"), ("given_visits", "expected_visits")]:
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
rows = [db.execute(f"select count(*) from {table}").fetchone()[0] for table in ["expected", "expected_counts", "expected_visits"]]
print(f"{duckdb.__version__}: {rows[0]} attributed orders, {rows[1]} counts and {rows[2]} visits agree")
