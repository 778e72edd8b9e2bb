"""The signals of lback-framework 1.0.3 and what each carries. Pure data, of no import but types.

Read off the framework's sources; ``tests/unit/test_catalogue.py`` holds the table to them. The
framework sends 183 names itself, and a project's generated ``manage.py`` sends ``command_*``.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

VERSION: Final = "1.0.3"
"""The version of lback-framework that this describes."""

# One signal a line: its name, then the keys of its payload; "?" marks a key that only some of the
# places that send the signal give. An indented line goes on with the one above.
_TABLE: Final = """
admin_auth_initialized:
admin_authenticated: admin_user session
admin_authentication_check: request is_admin reason
admin_authentication_failed: username reason admin_user? exception?
admin_authentication_started: username
admin_login_attempt: username request
admin_login_failed: username request reason exception?
admin_login_successful: admin_user username request
admin_logout_attempt: user_session session_id user_id
admin_logout_successful: session_id user_id
admin_model_registered: model_class model_name lowercase_name
admin_model_registration_failed: model_class model_name error_type exception?
admin_pre_register: username email role_name
admin_registered: admin_user session
admin_registration_attempt: username email
admin_registration_failed: username email error_type role_name? error_message? exception?
admin_registration_started: username email role_name
admin_registration_successful: admin_user username email db_session
admin_registry_initialized:
admin_user_permission_checked: admin_user permission_name has_permission reason
admin_user_post_create: admin_user session
admin_user_post_delete: admin_user_id session
admin_user_post_update: admin_user session
admin_user_pre_create: data session
admin_user_pre_delete: admin_user session
admin_user_pre_update: admin_user update_data session
alembic_command_completed: command args returncode stdout stderr
alembic_command_failed: command args returncode stdout stderr error_type exception
alembic_command_started: command args full_command
api_docs_collection_finished: paths_count processed_routes skipped_routes
api_docs_collection_started:
api_docs_initialized: title version description
api_docs_route_documented: route path documented_methods_count
api_docs_route_skipped: route reason
api_docs_serializer_schema_registered: serializer_class schema_name
api_docs_serializer_schema_registered_finished: schema_name
cache_cleared: cleared_count
cache_hit: key
cache_initialized:
cache_item_deleted: key
cache_item_expired: key expires_at
cache_item_fetched: key outcome
cache_item_set: key ttl expires_at
cache_miss: key
command_failed: command_name args exception
command_finished: command_name args result
command_started: command_name args
csrf_token_generated: session_id csrf_token
csrf_token_validated: session_id
csrf_token_validation_failed: session_id error_type stored_token_present?
db_engine_disposed: manager
db_manager_initialized: manager
db_operation_failed: manager operation exception
db_session_committed: request session
db_session_rolled_back: request session exception
db_tables_created: manager
db_tables_dropped: manager
db_template_load_failed: template_name exception
db_template_loaded: template_name content
db_template_loading_started: template_name
error_handler_initialized:
error_response_generated: status_code error_message request? response exception? allowed_methods?
exception_caught: request exception
jwt_access_token_created: payload token
jwt_decode_failed: token error_type exception? expected_type? actual_type?
jwt_refresh_token_created: payload token
jwt_token_decoded: token payload
middleware_add_failed: middleware_instance middleware_name error_type
middleware_added: middleware_instance middleware_name
middleware_manager_initialized:
middleware_process_request_failed: middleware_instance middleware_name request error_type
    returned_type? exception?
middleware_process_request_started: middleware_instance middleware_name request
middleware_process_request_succeeded: middleware_instance middleware_name request
middleware_process_response_failed: middleware_instance middleware_name request current_response
    error_type returned_type? exception?
middleware_process_response_started: middleware_instance middleware_name request current_response
middleware_process_response_succeeded: middleware_instance middleware_name request
    processed_response
middleware_remove_by_class_failed: middleware_class middleware_class_name error_type
middleware_remove_failed: middleware_instance middleware_name error_type
middleware_removed: middleware_instance middleware_name
middleware_removed_by_class: middleware_class middleware_class_name removed_count removed_instances
middleware_request_processing_finished: request method path
middleware_request_processing_started: request method path
middleware_request_short_circuited: middleware_instance middleware_name request response
middleware_response_processing_finished: request method path final_response
middleware_response_processing_started: request method path initial_response
migration_commands_initialized:
migration_history_command:
migration_makemigrations_command: message
migration_migrate_command: version
migration_rollback_command: version
model_pre_validate: model_instance model_name model_id
oauth2_authorize_url_generated: authorize_url state scope
oauth2_token_fetch_failed: code error
oauth2_token_fetched: code token_data
oauth2_token_refresh_failed: old_refresh_token error
oauth2_token_refreshed: old_refresh_token new_token_data
openapi_spec_generated: spec
password_reset_failed: token_prefix error_type exception? user?
password_reset_request_failed: email error_type exception?
password_reset_request_processed: email user session
password_reset_request_started: email
password_reset_started: token_prefix
password_reset_successful: user session
permission_check_failed: request required_permissions user view_func_name reason
permission_check_started: request required_permissions user view_func_name
permission_check_succeeded: request required_permissions user view_func_name
permission_post_create: permission session
permission_post_delete: permission_id session
permission_post_update: permission session
permission_pre_create: data session
permission_pre_delete: permission session
permission_pre_update: permission update_data session
post_view_execution: request response
pre_view_execution: request view path_variables
product_discount_application_failed: product discount_percentage original_price error_type
    exception?
product_discount_applied: product discount_percentage original_price new_price
product_quantity_update_failed: product amount original_quantity proposed_quantity error_type
    exception?
product_quantity_updated: product amount original_quantity new_quantity
request_finished: request response
request_started: request
role_permission_added: role permission
role_permission_operation_failed: role operation permission error_type
role_permission_removed: role permission
role_post_create: role session
role_post_delete: role_id session
role_post_update: role session
role_pre_create: data session
role_pre_delete: role session
role_pre_update: role update_data session
route_matched: request view path_variables
serializer_initialized: serializer many partial context
serializer_post_save: serializer instance session
serializer_post_serialize: serializer serialized_data
serializer_pre_save: serializer validated_data instance session
serializer_pre_serialize: serializer instance many
serializer_validation_failed: serializer errors exception?
serializer_validation_started: serializer raw_data
serializer_validation_succeeded: serializer validated_data
server_request_finished: method path full_path duration status_code response request
server_request_received: method path full_path headers environ
session_authentication_check: request user_id is_authenticated reason
session_cleanup_finished: removed_count
session_cleanup_started:
session_data_set: session_id key value
session_login_failed: request user_id user_type reason
session_manager_initialized: timeout
session_operation_failed: session_id? operation key? error_type exception?
template_rendered: template_name context rendered_content source
template_rendering_failed: template_name context source error_type exception
template_rendering_started: template_name context source
unhandled_exception_response_generated: status_code exception request response
user_authenticated: user session
user_authentication_failed: username reason user? exception?
user_authentication_started: username
user_deleted: user_id username session
user_deletion_failed: user_id? username? error_type exception?
user_deletion_started: user_id
user_email_verification_failed: user? token_prefix? error_type? exception?
user_email_verification_initiated: user
user_email_verification_successful: user reason?
user_email_verification_token_generated: user
user_email_verified: user reason?
user_logged_in: request user_id user_type session
user_logged_out: request session_id user_id
user_password_check_failed: user exception
user_password_checked: user success
user_password_set: user
user_password_set_failed: user exception
user_post_create: user session
user_post_delete: user_id session
user_post_update: user session
user_pre_create: data session
user_pre_delete: user session
user_pre_register: username email
user_pre_update: user update_data session
user_registered: user session
user_registration_failed: username email error_type error_message? exception?
user_registration_started: username email
user_update_failed: user_id update_data error_type exception? user?
user_update_started: user_id update_data
user_updated: user session
view_dispatch_started: view_instance request method path
view_dispatch_succeeded: view_instance request method path response
view_handler_not_implemented: view_instance request method path handler_name
view_method_not_allowed: view_instance request method path allowed_methods
wsgi_application_error: error_type environ
"""

_KINDS: Final = """
entity: admin_user instance model_instance permission product role user
session: db_session session user_session
request: request
response: current_response final_response initial_response processed_response response
exception: exception
secret: authorize_url code csrf_token data environ full_path headers new_token_data
secret: old_refresh_token payload raw_data session_id state token token_data token_prefix
secret: update_data validated_data value
bulk: content context rendered_content serialized_data spec
object: manager middleware_class middleware_instance model_class removed_instances
object: returned_type route serializer serializer_class view view_instance
"""

BEFORE_ROLLBACK: Final = frozenset({"db_session_rolled_back", "exception_caught"})
"""Signals that the framework sends while a transaction is open which it rolls back afterwards."""

NEVER_SENT: Final[Mapping[str, str]] = MappingProxyType(
    {
        "server_starting": "no signal tells that the server starts; db_manager_initialized is "
        "sent while it does, before any middleware exists",
        "server_started": "no signal tells that the server has started; request_started is sent "
        "with each request",
        "server_shutting_down": "no signal tells that the server stops; use atexit",
        "server_response_sent": "server_request_finished is",
        "user_login_successful": "user_logged_in is",
        "user_login_failed": "session_login_failed and user_authentication_failed are",
    }
)
"""Names in the framework's README that it never sends, and what to use instead of each."""


def _parsed(table: str) -> dict[str, tuple[str, ...]]:
    lines = table.replace("\n    ", " ").strip().splitlines()
    rows = (line.partition(":") for line in lines)
    return {name: tuple(keys.split()) for name, _, keys in rows}


_MARKED: Final = _parsed(_TABLE)

SIGNALS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {name: tuple(key.rstrip("?") for key in keys) for name, keys in _MARKED.items()}
)
"""Signal name to the keys of its payload, ``sender`` not included."""

OPTIONAL: Final[Mapping[str, frozenset[str]]] = MappingProxyType(
    {
        name: frozenset(key[:-1] for key in keys if key.endswith("?"))
        for name, keys in _MARKED.items()
    }
)
"""Signal name to the keys that are not always there."""

_KIND_OF: Final = {
    key: kind
    for kind, _, keys in (line.partition(":") for line in _KINDS.strip().splitlines())
    for key in keys.split()
}


def kind_of(key: str) -> str:
    """Return what the framework puts under a payload key.

    Returns:
        "entity" (an ORM row), "session", "request", "response", "exception", "secret" (it holds
        tokens, passwords, cookies or headers, or may), "bulk" (text or data without a limit),
        "object" (another live object), or "plain".
    """
    return _KIND_OF.get(key, "plain")
