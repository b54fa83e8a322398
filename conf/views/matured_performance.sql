-- How good scores were whose outcome is known by now, by night and segment.
-- score_date: the night that was watched
-- segment: part of the users; `all` for the whole
-- users: users whose outcome is known
-- defaults: of them, those who defaulted
-- default_rate: defaults over users
-- auc: area under the ROC curve, 0.5 to 1; null with too few outcomes
-- ks: Kolmogorov-Smirnov distance, 0 to 1
-- calibration: how far the mean probability is off the default rate, as docs/monitoring.md defines it
-- breached: whether one of these lies beyond its threshold
SELECT
  score_date,
  segment,
  CAST(max(value) FILTER (WHERE measure = 'matured.users') AS BIGINT) AS users,
  CAST(max(value) FILTER (WHERE measure = 'matured.defaults') AS BIGINT) AS defaults,
  max(value) FILTER (WHERE measure = 'matured.defaults') / max(value) FILTER (WHERE measure = 'matured.users')
    AS default_rate,
  max(value) FILTER (WHERE measure = 'matured.auc') AS auc,
  max(value) FILTER (WHERE measure = 'matured.ks') AS ks,
  max(value) FILTER (WHERE measure = 'matured.calibration') AS calibration,
  bool_or(breached) AS breached
FROM score_monitoring
WHERE measure LIKE 'matured.%'
GROUP BY score_date, segment
HAVING count(value) > 0
