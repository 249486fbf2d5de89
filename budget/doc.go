// Package budget counts what requests cost before the cost arises, per request,
// per client and in all, and refuses what goes beyond a limit.
//
// A Ledger belongs to the process. Each request opens a Budget in the name of its
// client and carries it in its context. Code that is about to spend something
// takes the Budget from the context and charges it: Hold for what comes back when
// the request or the work has ended (bytes in memory, downloads, processes), Spend
// for what does not (bytes unpacked, documents read, files written). What a client
// has spent is forgiven evenly over a minute.
//
// Shares: a client holds at most the client's limit, a quarter of all by default,
// and the last quarter of all is only for clients that hold nothing yet, or a small
// part of their share: a pull is several requests at a time. So the use of one client,
// or of three, never refuses another client's first requests. The
// clients of one group (a user's addresses, a network) have half of all together.
//
// A context without a Budget is charged nothing: that is the command line, and
// work that the operator ordered.
//
// Work that several clients wait for is charged to the one that began it, and queues
// take it when the first of them has its turn (Share, Watch).
//
// Files: account.go (Ledger, accounts of clients), budget.go (Budget, contexts), holding.go (Holding),
// limits.go (kinds, limits, Exceeded), shared.go (work that several clients want).
package budget
