-- Which measures are beyond their threshold and need a person's attention, and since when?
SELECT
  measure,
  segment,
  round(value, 4) AS value,
  threshold,
  open_since,
  nights
FROM breaches
ORDER BY open_since, measure, segment
LIMIT 10
