-- Settings of one session of the bootstrap; a \connect forgets them, so this file is included after each.

-- Statements of this session carry passwords: none of them may reach the server's log, whatever it is configured
-- to log, nor pg_stat_activity, nor what the extensions that watch statements keep. Settings of an extension that is not loaded are
-- accepted as placeholders and do nothing.
SET log_statement = 'none';
SET log_min_error_statement = 'panic';
SET log_min_duration_statement = -1;
SET log_min_duration_sample = -1;
SET log_transaction_sample_rate = 0;
SET log_error_verbosity = 'terse'; -- the context of an error quotes the statement that failed
SET debug_print_parse = off;
SET debug_print_rewritten = off;
SET debug_print_plan = off;
SET track_activities = off;
SET pg_stat_statements.track = 'none';
SET pg_stat_statements.track_utility = off;
SET auto_explain.log_min_duration = -1;
SET pgaudit.log = 'none';

SET password_encryption = 'scram-sha-256';

-- "already exists, skipping" is the normal case of a second run.
SET client_min_messages = 'warning';
-- A superuser's own settings must not decide where an unqualified name ends up, nor time a migration out.
SET search_path = public;
SET statement_timeout = 0;
SET default_transaction_read_only = off;
SET check_function_bodies = on;

-- Two bootstraps at once (a Job that was retried) take turns, database by database. The key is arbitrary.
SELECT pg_advisory_lock(6432, 5432) \g /dev/null
