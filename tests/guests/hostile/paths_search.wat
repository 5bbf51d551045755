;; Tries to search outside of its root.
(component
  {{types}}
  {{gates}}
  {{libc}}
  {{call}}
  (core instance $gate (export "call" (func $call)))
  {{call_each}}
  (core module $main'
    (import "libc" "memory" (memory 1))
    (import "caller" "each" (func $each (param i32 i32 i32 i32) (result i32)))
    ;; Returns how many of them were answered: one digit.
    (func (export "run") (param i32 i32) (result i32)
      (i32.store8 (i32.const 1536)
        (i32.add (i32.const 48) (call $each (i32.const 16) (i32.const 6) (i32.const 2048) (i32.const 2513))))
      (i32.store8 (i32.const 1024) (i32.const 0))
      (i32.store (i32.const 1028) (i32.const 1536))
      (i32.store (i32.const 1032) (i32.const 1))
      (i32.const 1024))
    (data (i32.const 16) "search")
    (data (i32.const 2048) "[\22secret\22, \22../secret.txt\22]\0a[\22secret\22, \22a/../../secret.txt\22]\0a[\22secret\22, \22/etc/passwd\22]\0a[\22secret\22, \22./../secret.txt\22]\0a[\22secret\22, \22link/secret.txt\22]\0a[\22secret\22, \22out\22]\0a[\22secret\22, \22..\22]\0a[\22secret\22, \22a\5c\5c..\5c\5c..\5c\5csecret.txt\22]\0a[\22secret\22, \22..%2fsecret.txt\22]\0a[\22secret\22, \22a/./../../secret.txt\22]\0a[\22secret\22, \22//etc/passwd\22]\0a[\22secret\22, \22\5cu2025/secret.txt\22]\0a[\22secret\22, \22secret.txt\5cu0000.md\22]\0a[\22secret\22, \22C:\5c\5csecret.txt\22]\0a[\22secret\22, \22/proc/self/environ\22]\0a[\22secret\22, \22~/secret.txt\22]\0a"))
  {{run_each}}
)
