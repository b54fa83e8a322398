-- Open findings: measures whose latest value is beyond its threshold.
-- measure: the measure; docs/monitoring.md lists all
-- segment: part of the users, or the input; `all` for everything
-- value: the latest value
-- threshold: the limit that the value is beyond
-- counted: users, payments or labels behind the value
-- score_date: the night of that value
-- open_since: the first night of the breach that is open now
-- nights: monitored nights from open_since on, including the latest
SELECT
  measure,
  segment,
  max_by(value, score_date) AS value,
  max_by(threshold, score_date) AS threshold,
  max_by(counted, score_date) AS counted,
  max(score_date) AS score_date,
  min(score_date) AS open_since,
  count(*) AS nights
FROM (
  SELECT *, max(CASE WHEN NOT breached THEN score_date END) OVER (PARTITION BY measure, segment) AS last_kept
  FROM score_monitoring
)
WHERE last_kept IS NULL OR score_date > last_kept
GROUP BY measure, segment
