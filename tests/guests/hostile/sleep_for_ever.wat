;; Waits in a function of the host for a day that never comes.
(component
  {{types}}
  (import "wasi:io/poll@0.2.0" (instance $poll
    (export "pollable" (type $pollable (sub resource)))
    (export "[method]pollable.block" (func (param "self" (borrow $pollable))))))
  (alias export $poll "pollable" (type $pollable))
  (import "wasi:clocks/monotonic-clock@0.2.0" (instance $clock
    (alias outer 1 $pollable (type $pollable'))
    (export "pollable" (type $pollable (eq $pollable')))
    (export "subscribe-duration" (func (param "when" u64) (result (own $pollable))))))
  {{libc}}
  (core func $subscribe (canon lower (func $clock "subscribe-duration")))
  (core func $block (canon lower (func $poll "[method]pollable.block")))
  (core instance $host (export "subscribe" (func $subscribe)) (export "block" (func $block)))
  (core module $main'
    (import "libc" "memory" (memory 1))
    (import "host" "subscribe" (func $subscribe (param i64) (result i32)))
    (import "host" "block" (func $block (param i32)))
    (func (export "run") (param i32 i32) (result i32)
      (call $block (call $subscribe (i64.const 0x7fffffffffffffff)))
      (unreachable)))
  (core instance $main (instantiate $main' (with "libc" (instance $libc)) (with "host" (instance $host))))
  (alias core export $main "run" (core func $run'))
  (func $run (param "intent" string) (result (result string (error $error)))
    (canon lift (core func $run') (memory $memory) (realloc $realloc)))
  (export "run" (func $run))
)
