"""The dispatcher's HTTP API: checks what comes in, hands it to the intake or the store, words the answers."""
