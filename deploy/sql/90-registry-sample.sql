-- A small model catalog, only into an empty one.

BEGIN;
SELECT NOT EXISTS (SELECT FROM brk_registry.hosting_provider) AND NOT EXISTS (SELECT FROM brk_registry.model_maker) AS is_empty \gset
\if :is_empty

INSERT INTO brk_registry.hosting_provider (id, code, name) VALUES
  (1, 'azure', 'Azure OpenAI'),
  (2, 'bedrock', 'AWS Bedrock'),
  (3, 'anthropic', 'Anthropic'),
  (4, 'open-ai', 'OpenAI');

INSERT INTO brk_registry.model_maker (id, code, name) VALUES
  (1, 'anthropic', 'Anthropic'),
  (2, 'openai', 'OpenAI'),
  (3, 'meta', 'Meta');

INSERT INTO brk_registry.model_family (id, maker_id, code, name) VALUES
  (1, 1, 'claude', 'Claude'),
  (2, 2, 'gpt', 'GPT'),
  (3, 3, 'llama', 'Llama');

INSERT INTO brk_registry.model (id, family_id, code, variant, name, capabilities, context_window) VALUES
  (1, 1, 'claude-3-5', 'sonnet', 'Claude 3.5 Sonnet', '{chat,tools,vision}', 200000),
  (2, 1, 'claude-3-5', 'haiku', 'Claude 3.5 Haiku', '{chat,tools}', 200000),
  (3, 2, 'gpt-4o', '', 'GPT-4o', '{chat,tools,vision}', 128000),
  (4, 2, 'gpt-4o', 'mini', 'GPT-4o mini', '{chat,tools,vision}', 128000),
  (5, 3, 'llama-3-1', '70b', 'Llama 3.1 70B', '{chat}', 128000);

INSERT INTO brk_registry.model_snapshot (id, model_id, code, released_on) VALUES
  (1, 1, '20241022', '2024-10-22'),
  (2, 2, '20241022', '2024-10-22'),
  (3, 3, '2024-08-06', '2024-08-06'),
  (4, 4, '2024-07-18', '2024-07-18'),
  (5, 5, 'v1', '2024-07-23');

INSERT INTO brk_registry.hosted_model (id, model_id, provider_id, snapshot_id, code) VALUES
  (1, 1, 3, 1, 'claude-3-5-sonnet-20241022'),
  (2, 1, 2, 1, 'anthropic.claude-3-5-sonnet-20241022-v2:0'),
  (3, 2, 3, 2, 'claude-3-5-haiku-20241022'),
  (4, 3, 1, 3, 'gpt-4o'),
  (5, 3, 4, 3, 'gpt-4o-2024-08-06'),
  (6, 4, 1, 4, 'gpt-4o-mini'),
  (7, 4, 4, 4, 'gpt-4o-mini-2024-07-18'),
  (8, 5, 2, 5, 'meta.llama3-1-70b-instruct-v1:0');

-- The ids above were given, not drawn: the next drawn one must follow them.
SELECT setval('brk_registry.hosting_provider_id_seq', 4), setval('brk_registry.model_maker_id_seq', 3),
       setval('brk_registry.model_family_id_seq', 3), setval('brk_registry.model_id_seq', 5),
       setval('brk_registry.model_snapshot_id_seq', 5), setval('brk_registry.hosted_model_id_seq', 8) \g /dev/null
\endif
COMMIT;
