;; Calls a gate again from where the host asks for room for the answer of the first call.
(component
  {{types}}
  {{gates}}
  (core module $libc'
    (type $call (func (param i32 i32 i32 i32 i32)))
    (memory (export "memory") 2)
    (table (export "table") 1 funcref)
    (global $next (mut i32) (i32.const 8192))
    (global $calls (mut i32) (i32.const 0))
    (func (export "realloc") (param i32 i32 i32 i32) (result i32)
      (local $at i32)
      (global.set $calls (i32.add (global.get $calls) (i32.const 1)))
      ;; The first is for the intent; the second comes from inside of the first gate call.
      (if (i32.gt_u (global.get $calls) (i32.const 1))
        (then (call_indirect (type $call) (i32.const 16) (i32.const 4) (i32.const 32) (i32.const 5) (i32.const 1024) (i32.const 0))))
      (local.set $at (i32.and (i32.add (global.get $next) (i32.const 7)) (i32.const -8)))
      (global.set $next (i32.add (local.get $at) (local.get 3)))
      (local.get $at))
    (data (i32.const 16) "echo") (data (i32.const 32) "[\22a\22]"))
  (core instance $libc (instantiate $libc'))
  (alias core export $libc "memory" (core memory $memory))
  (alias core export $libc "realloc" (core func $realloc))
  {{call}}
  (core instance $gate (export "call" (func $call)))
  (core module $main'
    (import "libc" "memory" (memory 1))
    (import "libc" "table" (table 1 funcref))
    (import "gate" "call" (func $call (param i32 i32 i32 i32 i32)))
    (elem (i32.const 0) $call)
    (func (export "run") (param i32 i32) (result i32)
      (call $call (i32.const 16) (i32.const 4) (i32.const 32) (i32.const 5) (i32.const 1024))
      (i32.const 1024)))
  {{run}}
)
