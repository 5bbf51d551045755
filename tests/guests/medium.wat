;; A medium for tests. Its language: `name[…]` calls a gate with a list of arguments, `!text` throws, anything else is a value.
(component
  {{types}}
  {{gates}}
  {{libc}}
  {{call}}
  (core instance $gate (export "call" (func $call)))
  (type $value' (record (field "value" (option string)) (field "text" string) (field "kind" string)))
  (import "value" (type $value (eq $value')))
  (type $thrown' (record (field "name" string) (field "message" string) (field "trace" string)))
  (import "thrown" (type $thrown (eq $thrown')))
  (core module $main'
    (import "libc" "memory" (memory 1))
    (import "gate" "call" (func $call (param i32 i32 i32 i32 i32)))
    (func (export "reset"))
    (func (export "evaluate") (param $source i32) (param $length i32) (result i32)
      (local $at i32)
      (memory.fill (i32.const 1024) (i32.const 0) (i32.const 64))
      (if (i32.eq (i32.load8_u (local.get $source)) (i32.const 33))
        (then
          (i32.store8 (i32.const 1024) (i32.const 1))
          (i32.store (i32.const 1028) (i32.const 16))
          (i32.store (i32.const 1032) (i32.const 5))
          (i32.store (i32.const 1036) (i32.add (local.get $source) (i32.const 1)))
          (i32.store (i32.const 1040) (i32.sub (local.get $length) (i32.const 1)))
          (return (i32.const 1024))))
      (block $found
        (loop $next
          (br_if $found (i32.ge_u (local.get $at) (local.get $length)))
          (br_if $found (i32.eq (i32.load8_u (i32.add (local.get $source) (local.get $at))) (i32.const 91)))
          (local.set $at (i32.add (local.get $at) (i32.const 1)))
          (br $next)))
      (call $call (local.get $source) (local.get $at)
        (i32.add (local.get $source) (local.get $at)) (i32.sub (local.get $length) (local.get $at)) (i32.const 512))
      ;; The answer's text is both the value and what is shown.
      (i32.store (i32.const 1028) (i32.const 0))
      (if (i32.eqz (i32.load8_u (i32.const 512)))
        (then
          (i32.store (i32.const 1040) (i32.load (i32.const 516)))
          (i32.store (i32.const 1044) (i32.load (i32.const 520))))
        (else
          (i32.store (i32.const 1040) (i32.load (i32.const 520)))
          (i32.store (i32.const 1044) (i32.load (i32.const 524)))))
      (i32.store (i32.const 1048) (i32.const 32))
      (i32.store (i32.const 1052) (i32.const 6))
      (i32.const 1024))
    (data (i32.const 16) "Wrong") (data (i32.const 32) "string"))
  (core instance $main (instantiate $main' (with "libc" (instance $libc)) (with "gate" (instance $gate))))
  (alias core export $main "evaluate" (core func $evaluate'))
  (alias core export $main "reset" (core func $reset'))
  (func $evaluate (param "source" string) (result (result $value (error $thrown)))
    (canon lift (core func $evaluate') (memory $memory) (realloc $realloc)))
  (func $reset (canon lift (core func $reset')))
  (export "evaluate" (func $evaluate))
  (export "reset" (func $reset))
)
