-- How good the scores with a known outcome were, by night and risk band.
-- score_date: the monitored night
-- segment: a risk band; `all` for all users
-- users: users whose outcome is known
-- defaults: those of them who defaulted
-- mean_probability: mean predicted probability of default, 0 to 1
-- default_rate: defaults divided by users
-- auc: area under the ROC curve, 0.5 to 1; only for segment `all`, null with too few outcomes
-- ks: Kolmogorov-Smirnov distance, 0 to 1; only for segment `all`, null with too few outcomes
-- calibration: mean probability divided by default rate; only for segment `all`, null with too few outcomes
-- breached: whether one of these values is beyond its threshold
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
