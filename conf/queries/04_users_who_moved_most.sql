-- Whose score moved most since the previous scored night, and what moved it?
SELECT
  user_id,
  round(probability_before, 4) AS before,
  round(probability, 4) AS now,
  concat(band_before, ' -> ', band) AS bands,
  round(odds_factor, 2) AS odds_factor,
  new_payments,
  text
FROM score_changes
ORDER BY moved DESC, user_id
LIMIT 10
