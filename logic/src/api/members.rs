//! `godwit.v1.Groups/Members`: who is in a group, for its members.

use prost::Message;
use proto::limits::MEMBERS_PAGE_MAX;
use proto::{Code, Fault, UserId, v1};

use super::access::{Access, group_id, no_such_group};
use super::{Api, broken, unavailable};

/// Rows of one read.
const ROWS: usize = 128;
/// Reads of one call: a group may have had any number of members.
const READS_MAX: usize = 16;

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
    // Former members have rows too: read on until the page is full without them, or enough was looked at.
    let mut members = Vec::new();
    let mut more = true;
    'reads: for _ in 0..READS_MAX {
        let row = api.store.conversations().members(&id, after.as_ref(), ROWS).await;
        let rows = row.map_err(|e| unavailable(&e))?.map(|row| row.members).unwrap_or_default();
        more = rows.len() == ROWS;
        for (user, row) in rows {
            let row = v1::MemberRow::decode(row).map_err(|_| broken("MemberRow"))?;
            if row.role() != v1::Role::None {
                if members.len() == limit {
                    more = true;
                    break 'reads;
                }
                members.push(v1::Member { user: user.to_string(), role: row.role, since: row.since });
            }
            after = Some(user);
        }
        if !more {
            break;
        }
        // Reads of embedded storage never wait by themselves.
        tokio::task::yield_now().await;
    }
    let next = after.filter(|_| more).map(|after| after.to_string()).unwrap_or_default();
    Ok(v1::MembersResponse { name: access.head.name, members, more, no: access.head.no, next })
}

fn page_limit(asked: u32) -> usize {
    match usize::try_from(asked) {
        Ok(0) | Err(_) => MEMBERS_PAGE_MAX,
        Ok(limit) => limit.min(MEMBERS_PAGE_MAX),
    }
}
