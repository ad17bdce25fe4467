-- A little data with fixed ids and times, only into service tables that are all empty: a run against an instance in use adds nothing.

BEGIN;
SELECT NOT EXISTS (SELECT FROM wm.working_memory) AND NOT EXISTS (SELECT FROM entity.node)
   AND NOT EXISTS (SELECT FROM brk_tracking.broker_request) AND NOT EXISTS (SELECT FROM brk_customer.customer)
   AND NOT EXISTS (SELECT FROM brk_routing.selection_strategy) AND NOT EXISTS (SELECT FROM document_processing.request_log)
   AND NOT EXISTS (SELECT FROM websearch.search_logs) AND NOT EXISTS (SELECT FROM notification.provider)
   AND NOT EXISTS (SELECT FROM console."user") AS is_empty \gset
\if :is_empty

INSERT INTO entity.node (id, graph_name, app_id, name, general_type_name, specific_type_name, data, interface, status, created, modified) VALUES
  ('e0000000-0000-4000-8000-000000000001', 'default', 'a0000000-0000-4000-8000-000000000001', 'quarterly-report', 'Workflow', 'ReportWorkflow',
   '{"quarter": "2025-Q4"}', 'HTTP', 'InProgress', '2026-01-15 09:00+00', '2026-01-15 09:04+00'),
  ('e0000000-0000-4000-8000-000000000002', 'default', 'a0000000-0000-4000-8000-000000000001', 'collect-figures', 'Step', 'QueryStep',
   '{"source": "analytics"}', 'None', 'Completed', '2026-01-15 09:01+00', '2026-01-15 09:02+00'),
  ('e0000000-0000-4000-8000-000000000003', 'default', 'a0000000-0000-4000-8000-000000000001', 'draft-summary', 'Step', 'BotStep',
   '{"bot": "SummaryBot"}', 'None', 'InProgress', '2026-01-15 09:02+00', '2026-01-15 09:04+00'),
  ('e0000000-0000-4000-8000-000000000004', 'default', 'a0000000-0000-4000-8000-000000000001', 'review', 'Step', 'WaitableStep',
   NULL, 'None', 'Pending', '2026-01-15 09:02+00', '2026-01-15 09:02+00'),
  ('e0000000-0000-4000-8000-000000000005', 'news', 'a0000000-0000-4000-8000-000000000002', 'article-17', 'Article', 'NewsArticle',
   '{"headline": "Rivers run high"}', NULL, NULL, '2026-01-15 10:00+00', '2026-01-15 10:00+00');

INSERT INTO entity.edge (id, graph_name, app_id, from_node_id, from_node_type, to_node_id, to_node_type, general_type_name, specific_type_name,
                         position, created, modified) VALUES
  ('ed000000-0000-4000-8000-000000000001', 'default', 'a0000000-0000-4000-8000-000000000001', 'e0000000-0000-4000-8000-000000000001',
   'ReportWorkflow', 'e0000000-0000-4000-8000-000000000002', 'QueryStep', 'Calls', 'Calls', 1, '2026-01-15 09:01+00', '2026-01-15 09:01+00'),
  ('ed000000-0000-4000-8000-000000000002', 'default', 'a0000000-0000-4000-8000-000000000001', 'e0000000-0000-4000-8000-000000000001',
   'ReportWorkflow', 'e0000000-0000-4000-8000-000000000003', 'BotStep', 'Calls', 'Calls', 2, '2026-01-15 09:02+00', '2026-01-15 09:02+00'),
  ('ed000000-0000-4000-8000-000000000003', 'default', 'a0000000-0000-4000-8000-000000000001', 'e0000000-0000-4000-8000-000000000003',
   'BotStep', 'e0000000-0000-4000-8000-000000000004', 'WaitableStep', 'Calls', 'Calls', 1, '2026-01-15 09:02+00', '2026-01-15 09:02+00');

INSERT INTO entity.node_io (node_id, input, output, progress) VALUES
  ('e0000000-0000-4000-8000-000000000002', '{"sql": "SELECT sum(amount) FROM sales"}', '{"rows": 1}', '[{"status": "started"}, {"status": "done"}]'),
  ('e0000000-0000-4000-8000-000000000003', '{"figures": 1}', NULL, '[{"status": "started"}]');

INSERT INTO wm.working_memory (id, entity_node_id, memory_type, name, description, metadata, provider, blob_key, status, created_at) VALUES
  ('b0000000-0000-4000-8000-000000000001', 'e0000000-0000-4000-8000-000000000002', 'data/json', 'figures', 'Sums by region',
   '{"rows": 4}', 'postgres', NULL, 'active', '2026-01-15 09:02'),
  ('b0000000-0000-4000-8000-000000000002', 'e0000000-0000-4000-8000-000000000001', 'file', 'report.pdf', 'The report as sent',
   '{"pages": 12}', 'azure_blob', 'default/2026/01/report.pdf', 'active', '2026-01-15 09:03'),
  ('b0000000-0000-4000-8000-000000000003', 'e0000000-0000-4000-8000-000000000003', 'code/python', 'chart.py', 'Draws the chart',
   NULL, 'git', NULL, 'active', '2026-01-15 09:04'),
  ('b0000000-0000-4000-8000-000000000004', NULL, 'file', 'report-draft.pdf', 'Superseded by report.pdf',
   NULL, 'azure_blob', 'default/2026/01/report-draft.pdf', 'archived', '2026-01-14 17:30');

INSERT INTO wm.memory_content (working_memory_id, content) VALUES
  ('b0000000-0000-4000-8000-000000000001', '{"north": 120, "south": 95, "east": 70, "west": 132}');

INSERT INTO brk_tracking.broker_request (id, request_id, status, error_code, error_message, model_pool, semantic_label, breadcrumbs,
                                         request_data, response_data, metrics, created_at, completed_at) VALUES
  (1, 'c0000000-0000-4000-8000-000000000001', 'completed', NULL, NULL, 'general-chat', 'SummaryBot',
   '[{"entity_type": "BotStep", "entity_id": "e0000000-0000-4000-8000-000000000003", "correlation_id": "run-1"}]',
   '{"messages": 2}', '{"text": "Sales rose by 4 %."}', '{"total_tokens": 912}', '2026-01-15 09:03+00', '2026-01-15 09:03:02+00'),
  (2, 'c0000000-0000-4000-8000-000000000002', 'failed', 'rate_limited', 'provider answered 429', 'general-chat', 'SummaryBot',
   '[]', '{"messages": 2}', NULL, NULL, '2026-01-15 09:03:30+00', '2026-01-15 09:03:31+00'),
  (3, 'c0000000-0000-4000-8000-000000000003', 'pending', NULL, NULL, 'general-chat', NULL,
   '[]', '{"messages": 5}', NULL, NULL, '2026-01-15 09:04+00', NULL);

INSERT INTO brk_tracking.llm_api_request (id, broker_request_id, provider_name, model_name, status, error_message, input_tokens,
                                          output_tokens, total_tokens, duration_ms, ttft_ms, created_at) VALUES
  (1, 1, 'azure', 'gpt-4o', 'completed', NULL, 800, 112, 912, 1840, 310, '2026-01-15 09:03+00'),
  (2, 2, 'azure', 'gpt-4o', 'failed', 'provider answered 429', NULL, NULL, NULL, 95, NULL, '2026-01-15 09:03:30+00');

INSERT INTO brk_tracking.tool_call_request (id, llm_request_id, tool_name, tool_type, tool_args, response_data, status, created_at) VALUES
  (1, 1, 'get_figures', 'function', '{"quarter": "2025-Q4"}', '{"rows": 4}', 'completed', '2026-01-15 09:03:01+00');

INSERT INTO brk_customer.customer (id, name, description) VALUES
  (1, 'default', 'Everything of a self-contained environment');
INSERT INTO brk_customer.provider_account (id, code, customer_id, provider_id, auth_method, auth_config, endpoint) VALUES
  (1, 'azure-default', 1, 1, 'api_key', '{"env": "AZURE_OPENAI_KEY"}', 'https://example.openai.azure.com'),
  (2, 'anthropic-default', 1, 3, 'api_key', '{"env": "ANTHROPIC_API_KEY"}', NULL);
INSERT INTO brk_customer.deployed_model (id, name, hosted_model_id, provider_account_id, deployment_name) VALUES
  (1, 'azure-gpt-4o', 4, 1, 'gpt-4o'),
  (2, 'anthropic-sonnet', 1, 2, NULL);

INSERT INTO brk_routing.selection_strategy (code, description) VALUES
  ('round_robin', 'Each in turn'),
  ('failover', 'The first that answers, in order');
INSERT INTO brk_routing.model_group (id, name, description, strategy) VALUES
  (1, 'general-chat', 'Default group', 'failover');
INSERT INTO brk_routing.model_group_resource (id, model_group_id, deployed_model_id, sequence_order, intelligence, cost) VALUES
  (1, 1, 1, 1, 8, 5),
  (2, 1, 2, 2, 9, 6);
INSERT INTO brk_routing.failover_config (model_group_id) VALUES (1);

INSERT INTO document_processing.request_log (id, operation, format, backend_used, processing_time_ms, success, created_at) VALUES
  (1, 'extract', 'pdf', 'pyworker', 640, true, '2026-01-15 08:50+00');
INSERT INTO document_processing.cache (key, result, created_at) VALUES
  ('9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08', '{"pages": 3}', '2026-01-15 08:50+00');

INSERT INTO websearch.search_logs (id, request_id, query, parameters, provider, result_count, response_time_ms, success, created_at) VALUES
  (1, 'd0000000-0000-4000-8000-000000000001', 'river levels january', '{"count": 10}', 'bing', 10, 412, true, '2026-01-15 09:59+00');

INSERT INTO notification.provider (id, channel, provider_type, secret_env_vars, is_active) VALUES
  ('f0000000-0000-4000-8000-000000000001', 'email', 'smtp', '{SMTP_PASSWORD}', true);
INSERT INTO notification.delivery (id, idempotency_key, provider_id, recipient, status, created_at) VALUES
  ('f1000000-0000-4000-8000-000000000001', 'report-2025-Q4', 'f0000000-0000-4000-8000-000000000001', 'sales@example.com', 'sent',
   '2026-01-15 09:05+00');

INSERT INTO console."user" (id, email, created_at) VALUES
  ('90000000-0000-4000-8000-000000000001', 'operator@example.com', '2026-01-10 08:00+00');
INSERT INTO console.user_action_log (id, user_id, action, created_at) VALUES
  (1, '90000000-0000-4000-8000-000000000001', 'login', '2026-01-15 08:45+00');

-- The ids above were given, not drawn: the next drawn one must follow them.
SELECT setval('brk_tracking.broker_request_id_seq', 3), setval('brk_tracking.llm_api_request_id_seq', 2),
       setval('brk_tracking.tool_call_request_id_seq', 1), setval('brk_customer.customer_id_seq', 1),
       setval('brk_customer.provider_account_id_seq', 2), setval('brk_customer.deployed_model_id_seq', 2),
       setval('brk_routing.model_group_id_seq', 1), setval('brk_routing.model_group_resource_id_seq', 2),
       setval('document_processing.request_log_id_seq', 1), setval('websearch.search_logs_id_seq', 1),
       setval('console.user_action_log_id_seq', 1) \g /dev/null
\endif
COMMIT;
