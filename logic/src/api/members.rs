//! `godwit.v1.Groups/Members`: who is in a group, for its members.

use prost::Message;
use proto::limits::MEMBERS_PAGE_MAX;
use proto::{Code, Fault, UserId, v1};

use super::access::{Access, group_id, no_such_group};
use super::{Api, broken, unavailable};

pub(super) async fn members(
    api: &Api,
    user: &UserId,
    request: &v1::MembersRequest,
) -> Result<v1::MembersResponse, Fault> {
    let id = group_id(&request.group)?;
    let limit = page_limit(request.limit);
    let mut after = match request.after.as_str() {
        "" => None,
        after => Some(UserId::new(after)?),
    };
    let access = Access::read(api, &id, user, request.min_no).await?.ok_or_else(no_such_group)?;
    match access.head.kind() {
        v1::ConversationKind::Group => access.require_member()?,
        v1::ConversationKind::Dissolved => {
            return Err(Fault::new(Code::Dissolved, "the group was dissolved"));
        }
        v1::ConversationKind::Direct | v1::ConversationKind::Unknown => return Err(no_such_group()),
    }
    // Former members have rows too: read on until the page is full without them, and one more.
    let mut found = Vec::new();
    while found.len() <= limit {
        let row = api.store.conversations().members(&id, after.as_ref(), limit + 1).await;
        let rows = row.map_err(|e| unavailable(&e))?.map(|row| row.members).unwrap_or_default();
        let last = rows.len() <= limit;
        for (user, row) in rows {
            let row = v1::MemberRow::decode(row).map_err(|_| broken("MemberRow"))?;
            if row.role() != v1::Role::None {
                found.push(v1::Member { user: user.to_string(), role: row.role, since: row.since });
            }
            after = Some(user);
        }
        if last {
            break;
        }
    }
    let more = found.len() > limit;
    found.truncate(limit);
    Ok(v1::MembersResponse { name: access.head.name, members: found, more, no: access.head.no })
}

fn page_limit(asked: u32) -> usize {
    match usize::try_from(asked) {
        Ok(0) | Err(_) => MEMBERS_PAGE_MAX,
        Ok(limit) => limit.min(MEMBERS_PAGE_MAX),
    }
}
