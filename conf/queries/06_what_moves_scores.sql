-- Do the amounts, the times or the kinds of payments move scores on the latest night?
SELECT
  coalesce(field, 'no single one') AS field,
  direction,
  sum(users) AS reasons,
  count(*) AS merchants,
  round(exp(sum(users * ln(mean_odds_factor)) / sum(users)), 2) AS mean_odds_factor
FROM top_reasons
WHERE score_date = (SELECT max(score_date) FROM scores)
GROUP BY field, direction
ORDER BY reasons DESC, field, direction
