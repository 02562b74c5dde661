"""Webhooks: what happens to an account's texts, and what its customers answer, posted to addresses that it names.

`model` has the values that pass between these, the store and HTTP; `events` writes an event as it is posted, `signing`
signs it as Standard Webhooks has it; `addresses` says where nothing is posted to, `deliverer` posts and says what came
of it; `pacing` says when to try again, `round` posts what is due at one endpoint, `poster` shares the endpoints among
the dispatchers of the live site. `store` is what all of it asks of the database.

Rules:

* At least once, and in order for each message: event n + 1 is not posted before n was taken, or has died.
* Nothing is posted twice at the same time: an endpoint is one dispatcher's, by a claim with a term and a length.
* An endpoint that fails delays nobody else, and is itself tried less and less often.
"""
