-- How good scores were whose outcome is known by now, by night and risk band.
-- score_date: the night that was watched
-- segment: a risk band; `all` for the whole
-- users: users whose outcome is known
-- defaults: of them, those who defaulted
-- mean_probability: what their scores said, 0 to 1
-- default_rate: defaults over users
-- auc: area under the ROC curve, 0.5 to 1; of the whole alone, null with too few outcomes
-- ks: Kolmogorov-Smirnov distance, 0 to 1; likewise
-- calibration: mean probability over default rate; likewise
-- breached: whether one of these lies beyond its threshold
SELECT
  score_date,
  segment,
  max(counted) FILTER (WHERE measure = 'matured_default_rate') AS users,
  CAST(
    round(
      max(value) FILTER (WHERE measure = 'matured_default_rate')
      * max(counted) FILTER (WHERE measure = 'matured_default_rate')
    ) AS BIGINT
  ) AS defaults,
  max(value) FILTER (WHERE measure = 'matured_mean_probability') AS mean_probability,
  max(value) FILTER (WHERE measure = 'matured_default_rate') AS default_rate,
  max(value) FILTER (WHERE measure = 'matured_auc') AS auc,
  max(value) FILTER (WHERE measure = 'matured_ks') AS ks,
  max(value) FILTER (WHERE measure = 'matured_calibration') AS calibration,
  bool_or(breached) AS breached
FROM score_monitoring
WHERE startswith(measure, 'matured_')
GROUP BY score_date, segment
HAVING count(*) FILTER (WHERE measure = 'matured_default_rate') > 0
