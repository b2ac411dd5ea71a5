"""Accounts and tokens over the JSON API, for programs that manage them (scope ``admin``)."""

from typing import Annotated, Any

from fastapi import APIRouter, Path
from pydantic import BaseModel, ConfigDict, Field

from console.output import jsonable
from console.web import management
from console.web.access import Administrator, ScopeFirst, SomebodySignedIn
from console.web.request_values import TheRecord
from db import accounts, api_tokens
from dicom_core.roles import Role, Scope

router = APIRouter(prefix="/api/v1", tags=["accounts"], route_class=ScopeFirst)
UserName = Annotated[str, Path(pattern=r"^[A-Za-z0-9][A-Za-z0-9._@+-]{0,127}$", description="Of the account.")]
TokenId = Annotated[str, Path(pattern="^[0-9a-f]{32}$", description="Of the token; not the token itself.")]


class NewAccount(BaseModel):
    """A local account."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    user_name: str = Field(min_length=1, max_length=128, description="Letters, digits and . _ @ + -.")
    display_name: str = Field("", max_length=128, description="For pages.")
    roles: tuple[Role, ...] = Field((), max_length=4, description="What the person is.")


class NewRoles(BaseModel):
    """What a person is from now on."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    roles: tuple[Role, ...] = Field(max_length=4, description="All of them; none takes everything away.")


class NewToken(BaseModel):
    """A token for a program."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1, max_length=64, description="What it is for.")
    scopes: tuple[Scope, ...] = Field(min_length=1, max_length=4, description="What it may do.")
    days: float = Field(api_tokens.DEFAULT_DAYS, gt=0, le=api_tokens.LONGEST_DAYS, description="How long it is good.")


class Nothing(BaseModel):
    """An empty object: the address says it all."""

    model_config = ConfigDict(extra="forbid", frozen=True)


@router.get("/me")
def show_caller(caller: SomebodySignedIn) -> dict[str, Any]:
    """Who asks, as this site knows it, and what that may do."""
    return {"name": caller.name, "kind": caller.kind, "scopes": jsonable(caller.scopes)}


@router.get("/accounts")
def list_accounts(_: Administrator, record: TheRecord) -> dict[str, Any]:
    """Everybody who may sign in, or could once."""
    return {"accounts": jsonable(accounts.accounts(record))}


@router.post("/accounts", status_code=201)
def add_account(caller: Administrator, record: TheRecord, wanted: NewAccount) -> dict[str, Any]:
    """Make a local account. The answer has the password for the first sign-in, which must be changed then."""
    made, password = management.add_account(
        record, caller, wanted.user_name, wanted.roles, display_name=wanted.display_name
    )
    return {"account": jsonable(made), "password": password}


@router.post("/accounts/{user_name}/roles")
def set_roles(caller: Administrator, record: TheRecord, user_name: UserName, wanted: NewRoles) -> dict[str, Any]:
    """Change what somebody else is; browsers in which that person is signed in follow at once."""
    return {"account": jsonable(management.set_roles(record, caller, user_name, wanted.roles))}


@router.post("/accounts/{user_name}/password")
def reset_password(caller: Administrator, record: TheRecord, user_name: UserName, _: Nothing) -> dict[str, Any]:
    """Give somebody a new password for the next sign-in, and sign him out everywhere."""
    return {"password": management.reset_password(record, caller, user_name)}


@router.post("/accounts/{user_name}/disable")
def disable_account(caller: Administrator, record: TheRecord, user_name: UserName, _: Nothing) -> dict[str, Any]:
    """Sign somebody out and keep him out. The account stays: the audit log names it."""
    management.disable(record, caller, user_name)
    return {"account": jsonable(accounts.account(record, user_name))}


@router.post("/accounts/{user_name}/enable")
def enable_account(caller: Administrator, record: TheRecord, user_name: UserName, _: Nothing) -> dict[str, Any]:
    """Let somebody sign in again, also after too many wrong passwords."""
    management.enable(record, caller, user_name)
    return {"account": jsonable(accounts.account(record, user_name))}


@router.get("/tokens")
def list_tokens(_: Administrator, record: TheRecord) -> dict[str, Any]:
    """What is known of all tokens, the latest first; never the tokens themselves."""
    return {"tokens": jsonable(api_tokens.tokens(record))}


@router.post("/tokens", status_code=201)
def create_token(caller: Administrator, record: TheRecord, wanted: NewToken) -> dict[str, Any]:
    """Make a token. The answer has the token itself, which is never shown again."""
    made, secret = management.create_token(record, caller, wanted.name, wanted.scopes, days=wanted.days)
    return {"token": jsonable(made), "secret": secret}


@router.post("/tokens/{token_id}/revoke")
def revoke_token(_: Administrator, record: TheRecord, token_id: TokenId, _nothing: Nothing) -> dict[str, Any]:
    """End a token now."""
    return {"token": jsonable(api_tokens.revoke(record, token_id))}
