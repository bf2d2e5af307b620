//! Everything a client can be told went wrong, in etcd's own words.
//!
//! Clients compare the texts letter by letter, so the table is etcd's whole table, also where this crate itself
//! never gives the error: the server takes its refusals from here too. Three errors at the end are ours.
//!
//! A name says what etcd calls the error (`ErrGRPC...` without the prefix).

use std::fmt;

/// gRPC's status codes, with their numbers on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum Code {
    /// The caller gave up.
    Canceled = 1,
    /// The request is wrong whatever the state.
    InvalidArgument = 3,
    /// The caller's time ran out.
    DeadlineExceeded = 4,
    /// What was named does not exist.
    NotFound = 5,
    /// The caller may not do this.
    PermissionDenied = 7,
    /// Some limit is reached.
    ResourceExhausted = 8,
    /// The state does not allow it now.
    FailedPrecondition = 9,
    /// A revision or time that cannot be served.
    OutOfRange = 11,
    /// Try again, perhaps elsewhere.
    Unavailable = 14,
    /// Data is gone or wrong.
    DataLoss = 15,
    /// The caller is not known.
    Unauthenticated = 16,
}

macro_rules! errors {
    ($($(#[$doc:meta])* $name:ident $code:ident $text:literal)*) => {
        /// Why a request was refused. The text and the code are what the client sees.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum StoreError {
            $($(#[$doc])* #[doc = $text] $name,)*
        }

        impl StoreError {
            /// Every error there is, in the table's order.
            pub const ALL: &[StoreError] = &[$(StoreError::$name),*];

            /// The text on the wire.
            #[must_use]
            pub fn text(self) -> &'static str {
                match self {
                    $(StoreError::$name => $text,)*
                }
            }

            /// The gRPC status code on the wire.
            #[must_use]
            pub fn code(self) -> Code {
                match self {
                    $(StoreError::$name => Code::$code,)*
                }
            }
        }
    };
}

errors! {
    EmptyKey InvalidArgument "etcdserver: key is not provided"
    KeyNotFound InvalidArgument "etcdserver: key not found"
    ValueProvided InvalidArgument "etcdserver: value is provided"
    LeaseProvided InvalidArgument "etcdserver: lease is provided"
    TooManyOps InvalidArgument "etcdserver: too many operations in txn request"
    DuplicateKey InvalidArgument "etcdserver: duplicate key given in txn request"
    InvalidClientAPIVersion InvalidArgument "etcdserver: invalid client api version"
    InvalidSortOption InvalidArgument "etcdserver: invalid sort option"
    Compacted OutOfRange "etcdserver: mvcc: required revision has been compacted"
    FutureRev OutOfRange "etcdserver: mvcc: required revision is a future revision"
    NoSpace ResourceExhausted "etcdserver: mvcc: database space exceeded"
    LeaseNotFound NotFound "etcdserver: requested lease not found"
    LeaseExist FailedPrecondition "etcdserver: lease already exists"
    LeaseTTLTooLarge OutOfRange "etcdserver: too large lease TTL"
    WatchCanceled Canceled "etcdserver: watch canceled"
    MemberExist FailedPrecondition "etcdserver: member ID already exist"
    PeerURLExist FailedPrecondition "etcdserver: Peer URLs already exists"
    MemberNotEnoughStarted FailedPrecondition "etcdserver: re-configuration failed due to not enough started members"
    MemberBadURLs InvalidArgument "etcdserver: given member URLs are invalid"
    MemberNotFound NotFound "etcdserver: member not found"
    MemberNotLearner FailedPrecondition "etcdserver: can only promote a learner member"
    LearnerNotReady FailedPrecondition "etcdserver: can only promote a learner member which is in sync with leader"
    TooManyLearners FailedPrecondition "etcdserver: too many learner members in cluster"
    ClusterIDMismatch FailedPrecondition "etcdserver: cluster ID mismatch"
    RequestTooLarge InvalidArgument "etcdserver: request is too large"
    RequestTooManyRequests ResourceExhausted "etcdserver: too many requests"
    RootUserNotExist FailedPrecondition "etcdserver: root user does not exist"
    RootRoleNotExist FailedPrecondition "etcdserver: root user does not have root role"
    UserAlreadyExist FailedPrecondition "etcdserver: user name already exists"
    UserEmpty InvalidArgument "etcdserver: user name is empty"
    UserNotFound FailedPrecondition "etcdserver: user name not found"
    RoleAlreadyExist FailedPrecondition "etcdserver: role name already exists"
    RoleNotFound FailedPrecondition "etcdserver: role name not found"
    RoleEmpty InvalidArgument "etcdserver: role name is empty"
    AuthFailed InvalidArgument "etcdserver: authentication failed, invalid user ID or password"
    PermissionNotGiven InvalidArgument "etcdserver: permission not given"
    PermissionDenied PermissionDenied "etcdserver: permission denied"
    RoleNotGranted FailedPrecondition "etcdserver: role is not granted to the user"
    PermissionNotGranted FailedPrecondition "etcdserver: permission is not granted to the role"
    AuthNotEnabled FailedPrecondition "etcdserver: authentication is not enabled"
    InvalidAuthToken Unauthenticated "etcdserver: invalid auth token"
    InvalidAuthMgmt InvalidArgument "etcdserver: invalid auth management"
    AuthOldRevision InvalidArgument "etcdserver: revision of auth store is old"
    NoLeader Unavailable "etcdserver: no leader"
    NotLeader FailedPrecondition "etcdserver: not leader"
    LeaderChanged Unavailable "etcdserver: leader changed"
    NotCapable FailedPrecondition "etcdserver: not capable"
    Stopped Unavailable "etcdserver: server stopped"
    Timeout Unavailable "etcdserver: request timed out"
    TimeoutDueToLeaderFail Unavailable "etcdserver: request timed out, possibly due to previous leader failure"
    TimeoutDueToConnectionLost Unavailable "etcdserver: request timed out, possibly due to connection lost"
    TimeoutWaitAppliedIndex Unavailable "etcdserver: request timed out, waiting for the applied index took too long"
    Unhealthy Unavailable "etcdserver: unhealthy cluster"
    Corrupt DataLoss "etcdserver: corrupt cluster"
    NotSupportedForLearner FailedPrecondition "etcdserver: rpc not supported for learner"
    BadLeaderTransferee FailedPrecondition "etcdserver: bad leader transferee"
    WrongDowngradeVersionFormat InvalidArgument "etcdserver: wrong downgrade target version format"
    InvalidDowngradeTargetVersion InvalidArgument "etcdserver: invalid downgrade target version"
    ClusterVersionUnavailable FailedPrecondition "etcdserver: cluster version not found during downgrade"
    DowngradeInProcess FailedPrecondition "etcdserver: cluster has a downgrade job in progress"
    NoInflightDowngrade FailedPrecondition "etcdserver: no inflight downgrade job"
    Canceled Canceled "etcdserver: request canceled"
    DeadlineExceeded DeadlineExceeded "etcdserver: context deadline exceeded"
    /// Ours: the log carried bytes that are no command.
    Malformed InvalidArgument "etcdserver: malformed request"
    /// Ours: the write would pass the reserved revision; it was not executed and may be sent again.
    ReservationExhausted Unavailable "etcdserver: no revision is reserved for this write yet, retry"
    /// Ours: a read that the log need not carry was asked to write.
    NotReadOnly InvalidArgument "etcdserver: the transaction writes"
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl std::error::Error for StoreError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_errors_share_a_text() {
        let mut texts: Vec<_> = StoreError::ALL.iter().map(|e| e.text()).collect();
        texts.sort_unstable();
        texts.dedup();
        assert_eq!(texts.len(), StoreError::ALL.len());
    }

    #[test]
    fn codes_are_those_of_grpc() {
        let table = [
            (StoreError::EmptyKey, 3),
            (StoreError::LeaseNotFound, 5),
            (StoreError::NoSpace, 8),
            (StoreError::LeaseExist, 9),
            (StoreError::Compacted, 11),
            (StoreError::NoLeader, 14),
            (StoreError::InvalidAuthToken, 16),
        ];
        for (error, number) in table {
            assert_eq!(error.code() as i32, number, "{error}");
        }
    }
}
