-- Who are the riskiest users of the latest night with enough history to trust the score, and why?
SELECT
  user_id,
  round(probability, 4) AS probability,
  band,
  round(percentile, 1) AS percentile,
  concat_ws(
    '; ',
    transform(
      reasons,
      r -> concat(
        if(r.merchant_name = '', r.merchant_id, r.merchant_name),
        if(r.direction = 'raises', ' raises', ' lowers'),
        ' risk (odds x',
        format_number(exp(r.contribution), 2),
        ')'
      )
    )
  ) AS why
FROM scores
WHERE score_date = (SELECT max(score_date) FROM scores)
  AND NOT thin_file
ORDER BY scores.probability DESC, user_id
LIMIT 10
