  (core func $call (canon lower (func $gates "call") (memory $memory) (realloc $realloc)))
