//! The index. (Skeleton.)
