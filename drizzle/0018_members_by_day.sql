-- A day's members all together stand beside its pairs from now on.
INSERT INTO "daily_return_stats" ("tenant_id", "subject", "day", "previous_day", "members")
SELECT "tenant_id", "subject", "day", 'infinity', sum("members") FROM "daily_return_stats"
WHERE "previous_day" <> 'infinity' GROUP BY 1, 2, 3 ORDER BY 1, 2, 3;
